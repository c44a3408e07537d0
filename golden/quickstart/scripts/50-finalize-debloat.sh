#!/bin/bash
# Reduce the root file system to what the image uses, by the lists in rules/.
set -euo pipefail
layer=$SRCDIR

shopt -s nullglob dotglob globstar extglob
layers=("$SRCDIR")
for profile in ${PROFILES-}; do
    layers+=("$SRCDIR/mkosi.profiles/$profile")
done
for layer in "${layers[@]}"; do
    if [[ -f $layer/rules/debloat-off ]]; then
        echo "debloat is off"
        exit 0
    fi
done

# The lines of the list $1 of every layer.
read_list() {
    local layer
    for layer in "${layers[@]}"; do
        if [[ -f $layer/rules/$1 ]]; then
            grep -v '^#' "$layer/rules/$1" || true
        fi
    done
}

mapfile -t keep_units < <(read_list keep-units)
mapfile -t keep_binaries < <(read_list keep-binaries)
mapfile -t keep_paths < <(read_list keep-paths)
mapfile -t keep_modules < <(read_list keep-modules)
mapfile -t remove_units < <(read_list remove-units)
mapfile -t remove_binaries < <(read_list remove-binaries)
mapfile -t remove_paths < <(read_list remove-paths)
mapfile -t remove_modules < <(read_list remove-modules)
cd "$BUILDROOT"

# Whether $1 matches one of the patterns that follow it.
matches() {
    local value=$1 pattern
    shift
    for pattern; do
        # shellcheck disable=SC2053 # the right side is a pattern
        [[ $value == $pattern ]] && return 0
    done
    return 1
}

# What the packages that match $1 have installed, one path a line, without folders and links to folders: packages made
# before /usr was merged list /lib as a folder of theirs.
files_of() {
    local list path
    # shellcheck disable=SC2231 # $1 is a pattern
    for list in var/lib/dpkg/info/$1.list var/lib/dpkg/info/$1:*.list; do
        [[ -f $list ]] || continue # a plain name is no pattern, so it stands here even without such a package
        while IFS= read -r path; do
            if [[ -e .$path || -L .$path ]] && [[ ! -d .$path ]]; then
                echo "$path"
            fi
        done < "$list"
    done
}

# --- what the recipe itself places in the image, and what it installs packages for
declare -A placed=() kept=() kept_packages=()
for layer in "${layers[@]}"; do
    if [[ -d $layer/mkosi.extra ]]; then
        while IFS= read -r -d '' path; do
            placed[/$path]=1
        done < <(find "$layer/mkosi.extra" ! -type d -printf '%P\0')
    fi
done
for name in "${keep_binaries[@]}"; do
    if [[ $name == package:* ]]; then
        kept_packages[${name#package:}]=1
        while IFS= read -r path; do
            kept[$path]=1
        done < <(files_of "${name#package:}")
    fi
done
for name in "${keep_units[@]}"; do
    if [[ $name == package:* ]]; then
        while IFS= read -r path; do
            if [[ $path == ?(/usr)/lib/systemd/system/+([!/]) ]]; then
                keep_units+=("${path##*/}")
            fi
        done < <(files_of "${name#package:}")
    fi
done

# Remove $1 (relative to the image), but nothing that a list keeps.
remove() {
    local path=$1 inner pattern
    if [[ -v placed[/$path] ]] || matches "/$path" "${keep_paths[@]}"; then
        return 0
    fi
    if [[ -d $path && ! -L $path ]]; then
        for pattern in "${keep_paths[@]}" "${!placed[@]}"; do
            if [[ $pattern == "/$path/"* ]]; then
                for inner in "$path"/*; do
                    remove "$inner"
                done
                rmdir --ignore-fail-on-non-empty "$path"
                return 0
            fi
        done
    fi
    rm -rf -- "$path"
}

# The same for a program, which its name or its package keeps as well.
remove_program() {
    if [[ ! -v kept[/$1] ]] \
        && ! matches "${1##*/}" "${keep_binaries[@]}" && ! matches "/$1" "${keep_binaries[@]}"; then
        remove "$1"
    fi
}

# Whether a package that stays depends on the package $1.
is_used() {
    local package
    [[ -f var/lib/dpkg/status ]] || return 0
    while IFS= read -r package; do
        matches "package:$package" "${remove_binaries[@]}" && [[ ! -v kept_packages[$package] ]] && continue
        [[ $package == "$1" ]] || return 0
    done < <(awk -v name="$1" '
        BEGIN { RS = ""; FS = "\n" }
        {
            package = ""
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^Package: /) package = substr($i, 10)
                if ($i ~ /^(Pre-)?Depends: / && $i ~ ("[ ,|]" name "([ ,(:]|$)")) print package
            }
        }' var/lib/dpkg/status)
    return 1
}

# --- programs, and packages that nothing needs in a finished image
for pattern in "${remove_binaries[@]}"; do
    found=()
    case $pattern in
        programs-of:*)
            mapfile -t found < <(files_of "${pattern#*:}" \
                | grep -E '^(/usr)?(/s?bin/|/local/s?bin/|/lib/systemd/(systemd[^/]*|[a-z-]*-generators/.*)$)' || true)
            ;;
        unused-package:*)
            if [[ ! -v kept_packages[${pattern#*:}] ]] && ! is_used "${pattern#*:}"; then
                mapfile -t found < <(files_of "${pattern#*:}")
            fi
            ;;
        package:*)
            if [[ ! -v kept_packages[${pattern#*:}] ]]; then
                mapfile -t found < <(files_of "${pattern#*:}")
            fi
            ;;
        /*)
            mapfile -t found < <(compgen -G ".$pattern" | sed 's/^\.//' || true)
            ;;
        *)
            for folder in usr/bin usr/sbin usr/local/bin usr/local/sbin usr/lib/systemd; do
                mapfile -t -O "${#found[@]}" found < <(compgen -G "$folder/$pattern" | sed 's/^/\//' || true)
            done
            ;;
    esac
    for file in "${found[@]}"; do
        remove_program "${file#/}"
    done
done

# --- units, with their drop-ins and links
for folder in usr/lib/systemd/system etc/systemd/system; do
    for entry in "$folder"/*; do
        name=${entry##*/}
        name=${name%.@(d|wants|requires|upholds)}
        if matches "$name" "${remove_units[@]}" && ! matches "$name" "${keep_units[@]}"; then
            rm -rf -- "$entry"
        fi
    done
    for link in "$folder"/*.@(wants|requires|upholds)/*; do
        name=${link##*/}
        template=${name/@*./@.} # an instance lives by its template
        if matches "$name" "${remove_units[@]}" \
            && ! matches "$name" "${keep_units[@]}" && ! matches "$template" "${keep_units[@]}"; then
            rm -f -- "$link"
        fi
    done
    for entry in "$folder"/*.@(d|wants|requires|upholds); do
        rmdir --ignore-fail-on-non-empty "$entry"
    done
done

# --- kernel modules: those that are kept and what they depend on
for modules in usr/lib/modules/*; do
    [[ -d $modules && ${#remove_modules[@]} -gt 0 ]] || continue
    version=${modules##*/}
    depmod --basedir "$BUILDROOT" "$version"
    declare -A wanted=()
    while IFS= read -r -d '' file; do
        name=${file##*/}
        name=${name%%.ko*}
        name=${name//-/_}
        if ! matches "$name" "${remove_modules[@]}" || matches "$name" "${keep_modules[@]}"; then
            depends=$(modprobe --dirname "$BUILDROOT" --set-version "$version" --show-depends "$name")
            while read -r verb needed _; do
                if [[ $verb == insmod ]]; then
                    wanted[${needed##*/}]=1
                fi
            done <<< "$depends"
        fi
    done < <(find "$modules" -name '*.ko*' -type f -print0)
    while IFS= read -r -d '' file; do
        [[ -v wanted[${file##*/}] ]] || rm -- "$file"
    done < <(find "$modules" -name '*.ko*' -type f -print0)
    find "$modules" -type d -empty -delete
    if [[ ${#wanted[@]} -eq 0 ]]; then
        remove "$modules"
        continue
    fi
    depmod --basedir "$BUILDROOT" "$version"
    # The text forms are of no use, but for those that libkmod and kmod static-nodes read: devname, softdep and weakdep.
    rm -f "$modules"/modules.{alias,builtin,builtin.modinfo,dep,order,symbols}
done

# --- everything else
for pattern in "${remove_paths[@]}"; do
    mapfile -t found < <(compgen -G ".$pattern" || true)
    for file in "${found[@]}"; do
        remove "${file#./}"
    done
done
