#!/bin/sh
# Runs every fuzz target of fuzz/ for some seconds, two at a time: fuzz.sh CARGO-FUZZ SECONDS. Coverage guides it, so it is built with
# LLVM's counters, which the stable compiler knows; no sanitizer, which it does not know: the program has no unsafe code. What is found stays in
# target/fuzz/found, what is learned in target/fuzz/corpus. It is not optimised: overflow checks and debug assertions are on, and building
# takes longer than running.
set -eu

cd "$(dirname "$0")/.."
tool=$1
seconds=$2
folder=target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

try() {
    target=$1
    mkdir -p "$folder/corpus/$target" "$folder/found/$target" "$folder/log"
    if "$folder/$host/debug/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$folder/found/$target/" "$folder/corpus/$target" "fuzz/seeds/$target" \
        >"$folder/log/$target" 2>&1; then
        tried=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log/$target")
        # Without it nothing was looked for.
        [ "${tried:-0}" -gt 0 ] || { echo "$target tried nothing" && return 1; }
        covered=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$folder/log/$target" | tail -n 1)
        printf '%-16s %9d inputs, %5d places reached\n' "$target" "$tried" "$covered"
    else
        tail -n 40 "$folder/log/$target"
        echo "$target failed: keep what is in $folder/found/$target as a seed, then correct what it found"
        return 1
    fi
}

if [ "${3:-}" ]; then
    try "$3"
else
    # A line of code is enough to find where it failed, and whole debug information makes each program three times as large.
    CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only "$tool" build --sanitizer none --dev --target-dir "$folder" --target "$host"
    ls fuzz/targets | sed 's/\.rs$//' | xargs -n 1 -P 2 "$0" "$tool" "$seconds"
fi
