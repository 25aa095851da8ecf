#!/usr/bin/env bash
# Builds the tests for other processors and C libraries, runs them, and prints a table.
#
#   tests/cross.sh [TARGET...]
#
# Without a TARGET all of them. What is foreign to this machine runs under qemu-user; i686 and musl
# on x86_64 run as they are, with the program and all. Exit status 1 if anything does not build,
# fails twice, or takes longer than a quarter of an hour.
#
# tests/cross/toolchain says what builds and runs a target, and makes it below target/cross where
# the machine does not have it; what it needs stands there. What is built takes 3 GB beside it.
# Everything is optimized a little, and checked as any debug build is. FEATURES=full builds with
# features, and SUITES="lib tls" runs these alone.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(
    i686-unknown-linux-gnu
    x86_64-unknown-linux-musl
    aarch64-unknown-linux-gnu
    armv7-unknown-linux-gnueabihf
    armv7-unknown-linux-musleabihf
    armv5te-unknown-linux-gnueabi
    mipsel-unknown-linux-gnu
    riscv64gc-unknown-linux-gnu
)

# Everywhere.
suites=(
    lib wheel_model differential simulation topics_model virtual_time memory fuzz sse hub
    loopback embedding admission closing reload topics workers
)
read -r -a suites <<<"${SUITES:-${suites[*]}}"
features=(${FEATURES:+--features "$FEATURES"})
# Not under an emulator: they start the program, and a kernel starts none of another processor.
native_suites=(drain faults idle listeners little_memory memory_budget operator program service)
# Nor these: they judge moments, and an emulator's are not the processor's.
native_suites+=(deadlines rates)
# Of the others these start it, or themselves again: the suite, and a part of the name.
native_tests=(
    'admission each_fault_of_the_file_is_a_line_that_names_its_line_and_no_token'
    'admission what_is_printed_and_logged_bears_no_token'
    'embedding a_server_without_workers_has_no_thread_and_no_signal_handler'
    'embedding a_write_to_who_is_gone_does_not_raise_sigpipe'
    'embedding workers_block_signals_and_their_host_does_not'
    'tls check_judges_files_dates_and_pairs'
    'tls openssl_is_shown_the_certificate_of_its_name_and_a_staple_until_it_is_past'
    'tls a_host_in_c_serves_over_tls'
)
# It names an end by SO_ERROR, which qemu 7.2 gives in the host's numbers: on MIPS a time-out is a
# reset then.
native_tests+=('workers a_peer_that_vanishes_while_its_handler_is_blocked_is_noticed')
# qemu 7.2 has no openat2: files are opened the longer way then, which follows no link.
native_tests+=('lib no_way_leads_out_of_the_folder')

usage() { sed -n '2,/^set/{/^#/{s/^# \{0,1\}//;p}}' "$0" >&2; exit 2; }

is_native() { case $(uname -m):$1 in x86_64:i686-* | x86_64:x86_64-*) ;; *) false ;; esac }

suites_of() {
    echo "${suites[@]}"
    if is_native "$1" && [ -z "${SUITES:-}" ]; then echo "${native_suites[@]}"; fi
}

# Names a suite as cargo does.
selected() { if [ "$1" = lib ]; then echo --lib; else echo "--test=$1"; fi; }

build() {
    local target=$1 suite options=()
    for suite in $(suites_of "$target"); do options+=("$(selected "$suite")"); done
    cargo test --package heartwheel --locked "${features[@]}" --no-run "${options[@]}"
}

# Runs one suite. The simulation is the longest: a quarter of its seeds is enough for an emulator.
run() {
    local target=$1 suite=$2 options=() test
    if ! is_native "$target"; then
        for test in "${native_tests[@]}"; do
            [ "${test% *}" != "$suite" ] || options+=(--skip "${test#* }")
        done
        [ "$suite" != simulation ] || local -x ROUNDS=${ROUNDS:-500}
    fi
    timeout --kill-after=5 900 \
        cargo test --package heartwheel --locked "${features[@]}" "$(selected "$suite")" -- "${options[@]}"
}

# Runs one suite into its log, and once more, loudly, if it fails: deadlines are measured on a
# machine that others share.
run_twice() {
    local target=$1 suite=$2 log=$3
    if run "$target" "$suite" >"$log" 2>&1; then return; fi
    mv "$log" "$log.first"
    echo "$suite FAILED ONCE, ONCE MORE: see $log.first"
    if run "$target" "$suite" >"$log" 2>&1; then return; fi
    echo "$suite FAILED: see $log"
    grep -E '^test .* FAILED$|panicked at' "$log" || tail -n 20 "$log"
    return 1
}

# Tests one target, and gives what its row of the table says beside its name.
test_target() {
    local target=$1 log=$place/logs/$1 suite tools began count passed=0 seconds=0 broken=()
    row="no toolchain | |"
    tools=$(tests/cross/toolchain "$place" "$target") || return 1
    eval "$tools"
    export CARGO_BUILD_TARGET=$target CARGO_TARGET_DIR=$place/build CARGO_INCREMENTAL=0
    export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=line-tables-only
    row="does not build | |"
    build "$target" >"$log" 2>&1 || { tail -n 40 "$log"; return 1; }
    for suite in $(suites_of "$target"); do
        began=$SECONDS
        run_twice "$target" "$suite" "$log.$suite" || broken+=("$suite")
        seconds=$((seconds + SECONDS - began))
        count=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log.$suite")
        passed=$((passed + ${count:-0}))
        printf '%-14s %4s passed in %3d s\n' "$suite" "${count:-none}" $((SECONDS - began))
    done
    row="$passed${broken:+, FAILED: ${broken[*]}} | $seconds |"
    is_native "$target" || row+=" what an emulator cannot judge"
    [ ${#broken[@]} = 0 ]
}

case ${1:-} in -*) usage ;; esac
[ $# -gt 0 ] || set -- "${targets[@]}"
place=$PWD/target/cross
table=$place/logs/table
mkdir -p "$place/logs"
printf '| target | tests passed | seconds | left out |\n|---|---|---|---|\n' >"$table"
status=0
for target; do
    printf '\n== %s\n' "$target"
    # In a process of its own, for the sake of its variables.
    (
        test_target "$target" || status=1
        echo "| \`$target\` | $row |" >>"$table"
        exit $status
    ) || status=1
done
echo
cat "$table"
printf '\nLeft out under an emulator: what starts a program of the target or judges moments,\n'
printf 'and where qemu gives errors in the host'\''s numbers:\n'
printf -- '- all of %s\n' "${native_suites[@]}"
printf -- '- of %s\n' "${native_tests[@]/ /: }"
exit $status
