# Sourced by the scripts that fuzz: how targets are built and run. Needs $CARGO.
# shellcheck shell=sh

# fuzz_build ROOT DIRECTORY: builds the targets of a source tree, with address sanitizer and debug assertions. The sanitizer
# needs unstable flags: of a nightly compiler if there is one, or else the stable one is told to take them.
fuzz_build() {
    if rustup toolchain list 2>/dev/null | grep -q ^nightly; then
        (cd "$1/fuzz" && $CARGO +nightly fuzz build --target-dir "$2")
    else
        (cd "$1/fuzz" && RUSTC_BOOTSTRAP=1 $CARGO fuzz build --target-dir "$2")
    fi
}

# fuzz_run DIRECTORY TARGET ARGUMENTS...: runs one.
fuzz_run() {
    program=$(find "$1" -path "*/release/$2" -type f) target=$2
    shift 2
    case $target in
        calls) set -- -max_len=1000 "$@" ;;
        configure_json) set -- -max_len=4096 -dict=fuzz/json.dict "$@" ;;
        *) set -- -max_len=2000 "$@" ;;
    esac
    # As cargo fuzz does: Rust has no one definition rule.
    ASAN_OPTIONS=detect_odr_violation=0 "$program" -print_final_stats=1 -timeout=20 "$@"
}
