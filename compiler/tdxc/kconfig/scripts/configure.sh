# --- the configuration: what was asked for, completed by the kernel's own defaults
cp "$inputs/config" .config
make --silent olddefconfig

declare -A configured=()
while IFS= read -r line; do
    case $line in
        CONFIG_*=*) configured[${line%%=*}]=${line#*=} ;;
    esac
done < .config

# --- the survival check: each option as it was asked for, or the build ends here and says what is missing
dropped=() left_out=0
declare -A level_of=() value_for=() reason_for=()
while IFS=$'\t' read -r level name value reason; do
    found=${configured[CONFIG_$name]-n}
    if [[ $found != "$value" && $value:$found != m:y ]]; then
        dropped+=("$name")
        level_of[$name]=$level value_for[$name]=$value reason_for[$name]=$reason
    fi
done < "$inputs/requirements"

# Why Kconfig dropped options, by its own parser, in the environment that make gives to its own program.
explain_dropped() {
    local name questions=() variables=() object objects=()
    for name in "${dropped[@]}"; do
        questions+=("$name=${value_for[$name]}")
    done
    # shellcheck disable=SC2016 # make's own function, in the language of Kconfig
    echo 'environment := $(shell,env -0 >why.environment)' > why.Kconfig
    make --silent KBUILD_KCONFIG=why.Kconfig listnewconfig > /dev/null
    for object in confdata expr lexer.lex menu parser.tab preprocess symbol util; do
        objects+=("scripts/kconfig/$object.o")
    done
    gcc -O1 -Iscripts/kconfig -Iscripts/include -o why "$inputs/why.c" "${objects[@]}"
    mapfile -d '' -t variables < why.environment
    env --ignore-environment "${variables[@]}" ./why "${questions[@]}"
}

if ((${#dropped[@]} > 0)); then
    if ! explain_dropped > why.txt 2> why.log; then
        cat why.log >&2
        : > why.txt
    fi
    failed=0
    for name in "${dropped[@]}"; do
        mapfile -t reasons < <(awk -F '\t' -v name="$name" '$1 == name && !seen[$2]++ { print $2 }' why.txt)
        case ${level_of[$name]}:${reasons[0]-} in
            # another version of the kernel has no such option, or decides on it by itself
            default:'is no option of this kernel' | default:'cannot be set by hand'* | \
                file:'is no option of this kernel' | file:'cannot be set by hand'*)
                echo "kernel: note: CONFIG_$name ${reasons[0]}, so it is left out: ${reason_for[$name]}" >&2
                left_out=$((left_out + 1))
                continue
                ;;
        esac
        failed=1
        found=${configured[CONFIG_$name]-n}
        echo "kernel: error: CONFIG_$name=${value_for[$name]} was asked for, and is $found" >&2
        echo "kernel:   asked for: ${reason_for[$name]}" >&2
        for reason in "${reasons[@]}"; do
            echo "kernel:   CONFIG_$name $reason" >&2
        done
        if [[ ${level_of[$name]} == default ]]; then
            echo "kernel:   fix: give it up with config={\"$name\": \"$found\"}, or set what it needs" >&2
        else
            echo "kernel:   fix: set what it needs in config=, or leave CONFIG_$name out" >&2
        fi
    done
    rm -f why.Kconfig why.environment why why.txt why.log
    ((failed == 0)) || exit 1
fi
echo "kernel: $(($(wc -l < "$inputs/requirements") - left_out)) options are as they were asked for, $left_out left out"
