#!/bin/sh
# Prints the folder of Prometheus's programs (prometheus and promtool). Where they are not on PATH, Debian's package is fetched and
# unpacked into target/tools/prometheus: nothing is installed, no daemon started, root not needed. Where they cannot be had it
# says SKIPPED and prints nothing; in CI that is an error.
set -eu

cd "$(dirname "$0")/.."
root=$(pwd)
folder=$root/target/tools/prometheus

has_programs() { [ -x "$1/prometheus" ] && [ -x "$1/promtool" ]; }

cannot() {
    if [ -n "${CI:-}" ]; then
        echo "Prometheus is missing: $1" >&2
        exit 1
    fi
    echo "SKIPPED: what needs Prometheus. $1" >&2
    exit 0
}

on_path=$(command -v prometheus || true)
if [ -n "$on_path" ] && has_programs "$(dirname "$on_path")"; then
    dirname "$on_path"
    exit 0
fi
if has_programs "$folder/usr/bin"; then
    echo "$folder/usr/bin"
    exit 0
fi
command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1 ||
    cannot 'Neither are its programs on PATH, nor is apt-get here to fetch them.'

# Several tests may ask at once: each unpacks for itself, and the first to be done puts it in place.
mkdir -p "$root/target/tools"
unpacked=$(mktemp -d "$root/target/tools/prometheus.XXXXXX")
trap 'rm -rf "$unpacked"' EXIT
fetch() { (cd "$unpacked" && apt-get download prometheus >fetch.log 2>&1); }
# The package lists may be missing or old; bringing them up to date takes root.
fetch || { apt-get update -qq >"$unpacked/update.log" 2>&1 && fetch; } ||
    cannot "apt-get cannot fetch it: $(tail -n 1 "$unpacked/fetch.log")"
dpkg -x "$unpacked"/prometheus_*.deb "$unpacked/root"
mv -T "$unpacked/root" "$folder" 2>/dev/null || true
has_programs "$folder/usr/bin" || cannot "It was unpacked, and its programs are not in $folder."
echo "$folder/usr/bin"
