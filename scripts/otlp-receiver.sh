#!/bin/sh
# Installs the receiver of the telemetry test into target/otlp-receiver, each package pinned by its hash.
set -eu

cd "$(dirname "$0")/.."
folder=target/otlp-receiver
scripts/python-packages.sh tests/receiver/requirements.txt "$folder" --no-deps --require-hashes
# Where Python put it differs from version to version.
agent=$("$folder/bin/python" -c 'import os, rotel; print(os.path.dirname(rotel.__file__))')/rotel-agent
ln -sf "$agent" "$folder/bin/rotel-agent"
