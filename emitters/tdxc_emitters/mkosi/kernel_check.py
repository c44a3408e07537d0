"""The script that holds the packaged kernel's configuration against what the image requires."""

from __future__ import annotations

from tdxc.ir import BuildLanguage, KernelSource, ResolvedImage

from tdxc_emitters.kconfig import check_script
from tdxc_emitters.mkosi.project import Phase, PhaseScript, origin_of

_ONE_KERNEL = """\
own=()
for profile in ${PROFILES-}; do
    if [[ -d $SRCDIR/mkosi.images/build-kernel-$profile ]]; then
        own+=("$profile")
    fi
done
if ((${#own[@]} > 1)); then
    profiles=$(IFS=,; echo "${own[*]}")
    echo "each of the profiles $profiles has a kernel of its own: compile them together, --profile $profiles" >&2
    exit 1
fi
"""

_HEAD_LINES = 3
"""Shebang, comment and strict mode, which every script of the tree gets anew."""


def kernel_check_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """The check, where anything is required of a packaged kernel; one from source is checked where it is built."""
    if image.kernel.source is KernelSource.SOURCE:
        return _one_kernel(image)
    if not image.kernel.options:
        return ()
    body = check_script(image).split("\n", _HEAD_LINES)[_HEAD_LINES]
    return (
        PhaseScript(
            phase=Phase.POSTINST,
            rank=80,
            what="kernel-config",
            purpose="Check that the installed kernel is configured as this image requires.",
            body=body,
            adds_up=True,
            origin=origin_of(image.kernel, "what is required of the kernel"),
        ),
    )


def _one_kernel(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """A guard for a profile with a kernel of its own: of two such profiles, mkosi would take the last one's alone."""
    kernels = [build for build in image.builds if build.language is BuildLanguage.KERNEL]
    if len(kernels) <= 1:
        return ()
    return (
        PhaseScript(
            phase=Phase.FINALIZE,
            rank=10,
            what="one-kernel",
            purpose="Refuse to combine profiles that each have a kernel of their own.",
            body=_ONE_KERNEL,
            origin=origin_of(kernels[-1], "the profile needs other options of the kernel"),
        ),
    )
