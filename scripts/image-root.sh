#!/bin/sh
# Puts together all that is in the image: image-root.sh PROGRAM FOLDER. The program, the libraries it is linked with, their loader, the
# certificate authorities of this system, and how names are resolved. Nothing else: no shell, no package manager, nothing to write to.
set -eu

program=$1
root=$2

rm -rf "$root"
# Each file under the path it has here: the loader looks nowhere else.
put() {
    mkdir -p "$root$(dirname "$1")"
    cp -L "$1" "$root$1"
    chmod "$2" "$root$1"
}

mkdir -p "$root/usr/local/bin"
cp "$program" "$root/usr/local/bin/pingone-unblock"
chmod 0555 "$root/usr/local/bin/pingone-unblock"
libraries=$(ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p')
[ -n "$libraries" ] || {
    echo "ldd names no library of $program" >&2
    exit 1
}
for library in $libraries; do
    put "$library" 0555
done
put /etc/ssl/certs/ca-certificates.crt 0444
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
chmod 0444 "$root/etc/nsswitch.conf"
# As of the commit, not of the build: the same files make the same image.
find "$root" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
