#!/bin/sh
# Records docs/bulk.svg: a real `bulk` against a server, a private PostgreSQL and a simulated PingOne, all on this machine, all
# ended again. The argument is the program; without one it is built.
set -eu

cd "$(dirname "$0")/.."
root=$(pwd)
python=$(command -v python3) || {
    echo "python3 is missing." >&2
    exit 1
}
if [ $# -gt 0 ]; then
    program=$1
else
    cargo build --locked --quiet
    program=${CARGO_TARGET_DIR:-target}/debug/pingone-unblock
fi

# In /tmp, whatever TMPDIR says: the path of PostgreSQL's socket must be short.
scratch=$(mktemp -d /tmp/recording.XXXXXX)
demo=
recorder=
stop() {
    status=$?
    trap - EXIT
    for started in $recorder $demo; do
        kill "$started" 2>/dev/null || true
        wait "$started" || true
    done
    rm -rf "$scratch"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$scratch/bin" "$scratch/work"
chmod 755 "$scratch"
# A copy: whoever builds meanwhile does not end what runs.
cp "$program" "$scratch/bin/pingone-unblock"
PATH=$scratch/bin:$PATH
export PATH

touch "$scratch/told"
pingone-unblock demo --listen 127.0.0.1:0 --data "$scratch/demo" >/dev/null 2>"$scratch/told" &
demo=$!
waited=0
until grep -q 'serving on' "$scratch/told"; do
    if [ "$waited" -ge 60 ] || ! kill -0 "$demo" 2>/dev/null; then
        cat "$scratch/told" >&2
        exit 1
    fi
    waited=$((waited + 1))
    sleep 1
done
address() { sed -n "s|^ *$1 .*\(http://[0-9.:]*\).*|\1|p" "$scratch/told" | head -n 1; }
UNBLOCK_SERVER=$(address server)
export UNBLOCK_SERVER

"$python" scripts/record-bulk.py "$scratch/work" "$(address PingOne)" >"$scratch/scene.json"
# Not in the foreground: there a signal would have to wait for its end.
"$python" scripts/record.py "$scratch/scene.json" "$scratch/bulk.svg" &
recorder=$!
wait "$recorder"
recorder=
mkdir -p "$root/docs"
mv "$scratch/bulk.svg" "$root/docs/bulk.svg"
