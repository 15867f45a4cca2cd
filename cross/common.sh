# Shared by cross/build and cross/test: arguments, phone profiles, toolchain. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Sets `target`, `cpu_flags` and, with everything that is cargo's, `rest`.
cross_arguments() {
    target=armv7-unknown-linux-gnueabihf
    cpu_flags=
    rest=()
    while [ $# -gt 0 ]; do
        case $1 in
            --phone) cross_phone "${2:?--phone needs a model}"; shift 2 ;;
            --phone=*) cross_phone "${1#*=}"; shift ;;
            --target) target=${2:?--target needs a triple}; shift 2 ;;
            --target=*) target=${1#*=}; shift ;;
            -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
            --) rest+=("$@"); break ;;
            *) rest+=("$1"); shift ;;
        esac
    done
}

cross_phone() {
    local model=${1,,} profile
    profile=$root/cross/phones/$model.conf
    [ -e "$profile" ] || {
        echo "$0: no profile for phone $1; there are:" "$(cd "$root/cross/phones" && echo *.conf)" >&2
        exit 2
    }
    . "$profile"
    target=$TARGET
    cpu_flags=$CPU_FLAGS
}

cross_toolchain() {
    local setting
    setting=$("$root/cross/toolchain" "$target")
    # cargo and rustdoc take the compiler from here.
    export "${setting?}"
    # A variable, because RUSTFLAGS would replace the flags of .cargo/config.toml.
    if [ -n "$cpu_flags" ]; then
        local name=${target^^}
        export "CARGO_TARGET_${name//-/_}_RUSTFLAGS=$cpu_flags"
    fi
}
