#!/bin/sh
# Installs the receiver of the telemetry test into a virtual environment of its own: otlp-receiver.sh [FOLDER], default
# target/otlp-receiver. Each package is pinned by its hash.
set -eu

cd "$(dirname "$0")/.."
folder=${1:-target/otlp-receiver}
requirements=tests/receiver/requirements.txt

if cmp -s "$requirements" "$folder/installed.txt"; then
    exit 0
fi
python=$(command -v python3) || {
    echo "python3 is missing." >&2
    exit 1
}
rm -rf "$folder"
"$python" -m venv "$folder" || {
    echo "Python's venv module is missing (Debian: apt-get install python3-venv)." >&2
    exit 1
}
"$folder/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps --require-hashes -r "$requirements"
# Where Python put it differs from version to version.
ln -s "$("$folder/bin/python" -c 'import os, rotel; print(os.path.dirname(rotel.__file__))')/rotel-agent" "$folder/bin/rotel-agent"
# Last: a broken installation is not taken for a whole one.
cp "$requirements" "$folder/installed.txt"
