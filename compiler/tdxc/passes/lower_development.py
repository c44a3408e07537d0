"""lower-development: an image for development or tests says so, where a verifier and a user can see it.

The mark is on the kernel command line (measured into RTMR2 and PCR 11 and 12), in os-release (part of the UKI and so
measured too) and in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticSink, Note
from tdxc.ir import KernelArgument, ResolvedImage, Script, ScriptPhase, Setting
from tdxc.ir.marks import DEVELOPMENT_ARGUMENT, PASSWORD_VARIABLE, TEST_ARGUMENT, is_test_image
from tdxc.passes.base import PassContext

_CAUSE = "lower-development: the image is marked"

_SET_PASSWORD = (
    "sed -i 's|^root:[^:]*:|root:x:|' /etc/passwd",
    "if grep -q '^root:' /etc/shadow 2>/dev/null; then",
    '    sed -i "s|^root:[^:]*:|root:$hash:|" /etc/shadow',
    "else",
    "    printf 'root:%s:1::::::\\n' \"$hash\" >>/etc/shadow",
    "    chown root:shadow /etc/shadow",
    "    chmod 0640 /etc/shadow",
    "fi",
)
"""A root of Debian without the package passwd has the account in /etc/passwd alone, locked (shadow(5))."""


class LowerDevelopment:
    """Mark the image, and set the password of root that Devtools asks for."""

    name: ClassVar[str] = "lower-development"
    description: ClassVar[str] = "mark development and test images; set the root password of Devtools"
    requires: ClassVar[frozenset[str]] = frozenset({"resolve-kernel"})
    establishes: ClassVar[frozenset[str]] = frozenset({"lower-development"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """The image with its marks; always warns of them."""
        marks = tuple(_marks(image, ctx.sink))
        if not marks:
            return image
        scripts = [_release_script(node, word) for word, node in marks]
        if image.root_password is not None:
            scripts.append(_password_script(image.root_password))
        added = tuple(KernelArgument(span=node.span, cause=_CAUSE, text=word) for word, node in marks)
        kernel = records.evolve(image.kernel, cmdline=(*image.kernel.cmdline, *added))
        return records.evolve(image, kernel=kernel, scripts=(*image.scripts, *scripts))


def _marks(image: ResolvedImage, sink: DiagnosticSink) -> Iterator[tuple[str, Setting]]:
    if image.development is not None:
        sink.add(
            Code.W_DEVELOPMENT,
            f"{image.development.value} makes it a development image; '{DEVELOPMENT_ARGUMENT}' says so to verifiers",
            image.development.span,
            notes=(Note(message="whoever has its console or its password can read what it is there to protect"),),
            fix="keep it to a profile that is never deployed; Policy(production=True) refuses to bake it",
        )
        yield DEVELOPMENT_ARGUMENT, image.development
    if is_test_image(image) and image.quote_service is not None:
        sink.add(
            Code.W_DEVELOPMENT,
            f"the image makes its quotes up: '{TEST_ARGUMENT}' says so to verifiers",
            image.quote_service.span,
            fix="write issuer='tdx' for quotes of the trust domain",
        )
        yield TEST_ARGUMENT, Setting(value="test", span=image.quote_service.span)


def _release_script(node: Setting, word: str) -> Script:
    key = word.partition("=")[0].upper().replace(".", "_")
    line = quoting.shell_word(f"{key}=1")
    text = f"printf '%s\\n' {line} >>/usr/lib/os-release\n"
    return Script(span=node.span, cause=_CAUSE, phase=ScriptPhase.POSTINST, name=f"os-release-{key.lower()}", text=text)


def _password_script(password: Setting) -> Script:
    """Only the hash is ever in the tree or in the image; a bake that makes one hands it over by a variable."""
    given = "" if password.value in {"random", "prompt"} else password.value
    lines = [f"hash={quoting.shell_word(given)}"]
    if not given:
        lines = [
            f'hash="${{{PASSWORD_VARIABLE}:-}}"',
            'if [ -z "$hash" ]; then',
            "    echo 'root has no password: tdxc build makes one, mkosi alone does not' >&2",
            "    exit 0",
            "fi",
        ]
    text = "\n".join((*lines, *_SET_PASSWORD)) + "\n"
    cause = "lower-development: Devtools gives root a password"
    return Script(span=password.span, cause=cause, phase=ScriptPhase.POSTINST, name="root-password", text=text)
