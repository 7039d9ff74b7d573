#!/bin/sh
# Installs what the Python client needs into a virtual environment of its own: clients.sh [FOLDER], default target/clients.
set -eu

cd "$(dirname "$0")/.."
folder=${1:-target/clients}
requirements=tests/clients/python/requirements.txt

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
"$folder/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$requirements"
# Last: a broken installation is not taken for a whole one.
cp "$requirements" "$folder/installed.txt"
