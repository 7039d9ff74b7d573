#!/bin/sh
# Draws docs/dashboards/*.png: two real replicas, a simulated PingOne and a real Prometheus run for three minutes, then matplotlib draws
# what each panel's expressions found. matplotlib is installed into target/pictures.
set -eu

cd "$(dirname "$0")/.."
folder=target/pictures
scripts/python-packages.sh scripts/dashboard-pictures.txt "$folder"
cargo test --locked --quiet --test suite -- --ignored --exact pictures::record
mkdir -p docs/dashboards
"$folder/bin/python" scripts/dashboard-pictures.py target/tmp/dashboards.json docs/dashboards
