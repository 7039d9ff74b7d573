#!/bin/sh
# Is the contract clean, and does it keep what the last release promised? The argument is the buf program.
set -eu

cd "$(dirname "$0")/.."
buf=${1:?usage: check-proto.sh PATH-OF-BUF}

"$buf" lint proto
"$buf" format --diff --exit-code proto

# From a fresh clone without tags there is nothing to compare with, and this says so.
release=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true)
if [ -z "$release" ]; then
    echo "No release yet: nothing that the contract could break."
else
    "$buf" breaking proto --against ".git#tag=$release,subdir=proto"
    echo "The contract keeps what $release promised."
fi
