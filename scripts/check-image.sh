#!/bin/sh
# Tries out what the Dockerfile builds where no container engine is: puts the same files together by the same script, then runs them as a
# container would be run, in a mount namespace with a read-only root, as the image's user, without capabilities. The argument is the
# program; without one it is built. Needs root, and openssl and Python to play PingOne over TLS.
set -eu

cd "$(dirname "$0")/.."
cannot() {
    if [ -n "${CI:-}" ]; then
        echo "The image cannot be tried out: $1" >&2
        exit 1
    fi
    echo "SKIPPED: the image. $1"
    exit 0
}
[ "$(uname)" = Linux ] || cannot 'Only Linux has namespaces.'
[ "$(id -u)" -eq 0 ] || cannot 'It takes root.'
for needed in unshare openssl python3; do
    command -v "$needed" >/dev/null || cannot "$needed is missing."
done

fail() {
    echo "the image: $*" >&2
    exit 1
}
ok() { printf "ok  %s\n" "$*"; }

# The Dockerfile is what is tried: whoever changes these lines changes this script.
stage=$(sed -n '/^FROM scratch$/,$p' Dockerfile)
[ "$(echo "$stage" | grep -c '^FROM')" = 1 ] || fail 'its last stage does not begin with an empty image'
[ "$(echo "$stage" | grep -E '^(COPY|ADD|RUN)')" = 'COPY --from=build /out/root/ /' ] ||
    fail 'something else than /out/root is in it'
grep -q 'scripts/image-root.sh target/release/pingone-unblock /out/root$' Dockerfile || fail 'not made by image-root.sh'
user=$(echo "$stage" | sed -n 's/^USER //p')
program=$(echo "$stage" | sed -n 's/^ENTRYPOINT \["\(.*\)"\]$/\1/p')

if [ $# -gt 0 ]; then
    built=$1
else
    cargo build --locked --quiet
    built=${CARGO_TARGET_DIR:-target}/debug/pingone-unblock
fi
folder=$(pwd)/target/image
mkdir -p "$folder"
root=$folder/root
scripts/image-root.sh "$built" "$root"

foreign=$(cd "$root" && find . ! -type d ! -path './usr/local/bin/pingone-unblock' ! -name '*.so' ! -name '*.so.*' \
    ! -path ./etc/ssl/certs/ca-certificates.crt ! -path ./etc/nsswitch.conf)
[ -z "$foreign" ] || fail "more is in it: $foreign"
ok "in it are the program, $(find "$root" -name '*.so*' | wc -l) libraries and two files; no shell, no package manager"
open=$(find "$root" \( -perm /o+w -o -perm /6000 -o ! -uid 0 \) ! -type l)
[ -z "$open" ] || fail "its user may write to, or gains rights by: $open"
ok 'all of it is root'\''s, nothing is open to others'

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=authority \
    -keyout "$folder/key.pem" -out "$folder/authority.pem" -addext 'subjectAltName=IP:127.0.0.1' \
    -addext 'basicConstraints=critical,CA:FALSE' 2>/dev/null
known=$folder/known
rm -rf "$known"
cp -a "$root" "$known"
chmod u+w "$known/etc/ssl/certs/ca-certificates.crt"
cat "$folder/authority.pem" >>"$known/etc/ssl/certs/ca-certificates.crt"

# Whatever is started in there ends with it.
unshare --mount --pid --fork --kill-child --mount-proc python3 scripts/try-image.py "$folder" "$user" "$program"
