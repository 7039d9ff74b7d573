#!/bin/sh
# Draws docs/dashboards/*.png: two real replicas, a simulated PingOne and a real Prometheus run for three minutes, then matplotlib draws
# what each panel's expressions found. matplotlib is installed into target/pictures.
set -eu

cd "$(dirname "$0")/.."
folder=target/pictures
requirements=scripts/dashboard-pictures.txt
if ! cmp -s "$requirements" "$folder/installed.txt"; then
    python=$(command -v python3) || {
        echo "python3 is missing." >&2
        exit 1
    }
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$requirements"
    # Last: a broken installation is not taken for a whole one.
    cp "$requirements" "$folder/installed.txt"
fi
cargo test --locked --quiet --test suite -- --ignored --exact pictures::record
mkdir -p docs/dashboards
"$folder/bin/python" scripts/dashboard-pictures.py target/tmp/dashboards.json docs/dashboards
