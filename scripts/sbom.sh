#!/bin/sh
# Writes target/sbom/pingone-unblock.cdx.json: what the program is built of, in CycloneDX, and checks it: sbom.sh CARGO-CYCLONEDX.
set -eu

cd "$(dirname "$0")/.."
tool=$1
folder=target/sbom
target=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$folder"
scripts/python-packages.sh scripts/sbom.txt "$folder/python"

# It writes a file beside every manifest of the workspace. SOURCE_DATE_EPOCH: the same commit gives the same file.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
trap 'rm -f written.cdx.json fuzz/written.cdx.json tests/model/written.cdx.json' EXIT
"$tool" cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --override-filename written.cdx
mv written.cdx.json "$folder/written.json"
cargo tree --locked --edges normal,build --target "$target" --prefix none --format '{p}' >"$folder/built.txt"
"$folder/python/bin/python" scripts/sbom.py "$folder/written.json" "$folder/built.txt" Cargo.lock "$folder/pingone-unblock.cdx.json"
