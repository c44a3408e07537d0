"""Marks of an image that is not for production, and the reasons that it has them."""

from __future__ import annotations

from tdxc.ir.image import ResolvedImage

DEVELOPMENT_ARGUMENT = "tdxvm.development=1"
TEST_ARGUMENT = "tdxvm.test=1"
"""Words of the kernel command line, which is measured: a verifier sees them."""


PASSWORD_VARIABLE = "TDXVM_ROOT_PASSWORD_HASH"  # noqa: S105 - the name of a variable
"""By which a bake hands the hash of a password to the tree that asks for one."""


def is_test_image(image: ResolvedImage) -> bool:
    """Whether the image makes its quotes up."""
    return image.quote_service is not None and image.quote_service.source == "fake"


def development_reasons(image: ResolvedImage) -> tuple[str, ...]:
    """Why this variant is not for production, in words; empty when nothing says so."""
    reasons = []
    if image.development is not None:
        reasons.append(f"{image.development.value} opens it for its developers")
    if image.ssh is not None and image.ssh.enabled:
        reasons.append("an SSH server gives its users the machine")
    if is_test_image(image):
        reasons.append("its quotes are made up, for tests")
    reasons += [f"profile '{name}' is for development" for name in image.profiles if name in {"dev", "devtools"}]
    return tuple(reasons)
