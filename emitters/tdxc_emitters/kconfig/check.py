"""The script that holds a packaged kernel configuration against what the image requires.

It runs while the image is made, behind the installation of packages: inside the image, or outside of it with
``BUILDROOT`` set as mkosi does for its scripts.
"""

from __future__ import annotations

from tdxc.ir import KconfigOption, ResolvedImage
from tdxc.quoting import shell_comment

_BEGIN = """\
#!/bin/bash
# Check that the installed kernel is configured as this image requires.
set -euo pipefail

root="${BUILDROOT:-}"
shopt -s nullglob
configs=("$root"/boot/config-* "$root"/usr/lib/modules/*/config)
if ((${#configs[@]} == 0)); then
    echo "kernel check: no kernel configuration under /boot: is a kernel package installed?" >&2
    exit 1
fi

# Each line: option, reason, required value ('m' is a module or built in, 'n' is off); separated by tabs.
requirements() {
    cat <<'END-OF-REQUIREMENTS'
"""

_END = """\
END-OF-REQUIREMENTS
}

failed=0
for config in "${configs[@]}"; do
    declare -A found=()
    while IFS= read -r line; do
        case "$line" in
        CONFIG_*=*) found["${line%%=*}"]="${line#*=}" ;;
        esac
    done <"$config"
    while IFS=$'\\t' read -r option reason wanted; do
        value="${found["$option"]:-n}"
        case "$wanted:$value" in
        "$wanted:$wanted" | m:y) ;;
        *)
            echo "kernel check: ${config#"$root"} has $option=$value, but $wanted is required: $reason" >&2
            failed=1
            ;;
        esac
    done < <(requirements)
done
exit "$failed"
"""


def check_script(image: ResolvedImage) -> str:
    """Bash text, shellcheck-clean, that exits with 1 after naming every option that does not hold."""
    return _BEGIN + "".join(_requirement(option) for option in image.kernel.options) + _END


def _requirement(option: KconfigOption) -> str:
    reason = shell_comment(option.cause) or "the recipe asks for it"
    return f"CONFIG_{option.name}\t{reason}\t{option.value}\n"
