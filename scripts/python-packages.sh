#!/bin/sh
# Installs Python packages into a virtual environment of their own: python-packages.sh REQUIREMENTS FOLDER [OPTIONS OF PIP].
set -eu

cd "$(dirname "$0")/.."
requirements=$1
folder=$2
shift 2

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
"$folder/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$@" -r "$requirements"
# Last: a broken installation is not taken for a whole one.
cp "$requirements" "$folder/installed.txt"
