#!/bin/sh
# Makes sure that PostgreSQL's programs (initdb and postgres) are on this machine. Says nothing and does nothing if they
# are; otherwise installs them with the system's package manager. No server is started.
set -eu

say() { printf 'ensure-postgresql: %s\n' "$*" >&2; }

has_programs() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ]; }

# Looks where the service looks: PG_BIN_DIR alone if it is set, else PATH, else the usual folders.
found() {
    if [ -n "${PG_BIN_DIR:-}" ]; then
        has_programs "$PG_BIN_DIR"
        return
    fi
    old_ifs=$IFS
    IFS=:
    for folder in $PATH; do
        if has_programs "$folder"; then
            IFS=$old_ifs
            return 0
        fi
    done
    IFS=$old_ifs
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/lib/postgresql[0-9]*/bin \
        /usr/libexec/postgresql[0-9]* /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
        /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
        if has_programs "$folder"; then return 0; fi
    done
    return 1
}

fail() {
    say "$*"
    say 'install PostgreSQL 14 or newer by hand, or set UNBLOCK_DATABASE_URL to a server you have, or: docker compose up'
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        fail "installing needs root, and there is no sudo (would run: $*)"
    fi
}

# Debian's package would start a server of its own. The drop-in says no before it is asked.
install_with_apt() {
    say 'installing with apt-get: postgresql'
    no_cluster='mkdir -p /etc/postgresql-common/createcluster.d &&
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/no-main-cluster.conf'
    [ -e /etc/postgresql-common/createcluster.conf ] || as_root sh -c "$no_cluster"
    as_root apt-get update -qq || say 'apt-get update failed; trying with the package lists there are'
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
}

if found; then exit 0; fi
if [ -n "${PG_BIN_DIR:-}" ]; then
    fail "PG_BIN_DIR is $PG_BIN_DIR, and initdb and postgres are not there"
fi

if command -v apt-get >/dev/null 2>&1; then
    install_with_apt || fail 'apt-get could not install postgresql'
elif command -v dnf >/dev/null 2>&1; then
    say 'installing with dnf: postgresql-server'
    as_root dnf install -y -q postgresql-server || fail 'dnf could not install postgresql-server'
elif command -v apk >/dev/null 2>&1; then
    say 'installing with apk: postgresql'
    as_root apk add -q postgresql || fail 'apk could not install postgresql'
elif command -v brew >/dev/null 2>&1; then
    say 'installing with brew: postgresql@17'
    brew install -q postgresql@17 || fail 'brew could not install postgresql@17'
else
    fail 'PostgreSQL is not here, and neither is apt-get, dnf, apk or brew'
fi

found || fail 'installed, and initdb and postgres are still not found'
