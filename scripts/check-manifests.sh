#!/bin/sh
# Checks what is in deploy/kubernetes: rendered by kustomize, alone or in kubectl, held against Kubernetes' own schemas, which a package
# of PyPI brings along, and against what scripts/check-manifests.py claims. Asks no cluster.
set -eu

cd "$(dirname "$0")/.."
if command -v kustomize >/dev/null 2>&1; then
    render() { kustomize build "$1"; }
elif command -v kubectl >/dev/null 2>&1; then
    render() { kubectl kustomize "$1"; }
elif [ -n "${CI:-}" ]; then
    echo "Neither kustomize nor kubectl is here: the manifests cannot be rendered." >&2
    exit 1
else
    echo "SKIPPED: the manifests. They are rendered by kustomize or kubectl, and neither is here."
    exit 0
fi
folder=target/manifests
scripts/python-packages.sh scripts/check-manifests.txt "$folder/python"
for overlay in example split; do
    render "deploy/kubernetes/$overlay" >"$folder/$overlay.yaml"
done
"$folder/python/bin/python" scripts/check-manifests.py "$folder/example.yaml" "$folder/split.yaml"
