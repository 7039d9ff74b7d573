#!/bin/sh
# Are the committed query metadata (.sqlx) those of the queries and migrations as they stand?
# Every query is checked against a throw-away PostgreSQL that carries the migrations. With --write the metadata are replaced.
set -eu

cd "$(dirname "$0")/.."
mode=${1:---check}
case $mode in
--check | --write) ;;
*)
    echo "usage: $0 [--check|--write]" >&2
    exit 2
    ;;
esac

# PostgreSQL keeps initdb and postgres out of PATH on Debian and with Homebrew.
find_programs() {
    for folder in "${PG_BIN_DIR:-}" "$(dirname "$(command -v initdb || echo /none/initdb)")" \
        $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -rn) \
        /usr/pgsql-*/bin /usr/lib/postgresql[0-9]*/bin /usr/libexec/postgresql[0-9]* \
        /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
        /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/psql" ]; then
            echo "$folder"
            return
        fi
    done
    echo "PostgreSQL's programs (initdb, postgres, psql) are missing: scripts/ensure-postgresql.sh installs them." >&2
    return 1
}

# initdb and postgres refuse to run as root.
as_owner() {
    if [ "$(id -u)" -eq 0 ]; then su -s /bin/sh postgres -c "$1"; else sh -c "$1"; fi
}

programs=$(find_programs)
# In /tmp, whatever TMPDIR says: the path of a socket must be short, and the user postgres must reach it.
scratch=$(mktemp -d /tmp/queries.XXXXXX)
stop() {
    status=$?
    trap - EXIT
    if [ -f "$scratch/server/data/postmaster.pid" ]; then
        as_owner "'$programs/pg_ctl' -D '$scratch/server/data' -m immediate -s stop" || true
    fi
    rm -rf "$scratch"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$scratch/metadata" "$scratch/server"
chmod 755 "$scratch"
if [ "$(id -u)" -eq 0 ]; then chown postgres "$scratch/server"; fi
server=$scratch/server

as_owner "cd / && '$programs/initdb' -D '$server/data' -U checker -A trust -E UTF8 --no-sync >'$server/log' 2>&1" || {
    cat "$server/log" >&2
    exit 1
}
as_owner "cd / && '$programs/pg_ctl' -D '$server/data' -l '$server/log' -w -s start -o \"-c listen_addresses='' -c unix_socket_directories='$server' -c fsync=off\"" || {
    cat "$server/log" >&2
    exit 1
}
for migration in migrations/*.sql; do
    "$programs/psql" -X -q -1 -v ON_ERROR_STOP=1 -h "$server" -U checker -d postgres -f "$migration"
done

# The macros speak to the database only where the crate is compiled anew.
touch src/lib.rs
DATABASE_URL="postgres://checker@localhost/postgres?host=$server" SQLX_OFFLINE=false \
    SQLX_OFFLINE_DIR="$scratch/metadata" cargo check --locked --quiet --all-targets

if [ "$mode" = --write ]; then
    rm -rf .sqlx
    mkdir .sqlx
    find "$scratch/metadata" -name 'query-*.json' -exec cp {} .sqlx/ \;
    echo ".sqlx holds the metadata of $(ls .sqlx | wc -l | tr -d ' ') queries."
elif diff -r .sqlx "$scratch/metadata"; then
    echo "The metadata of $(ls .sqlx | wc -l | tr -d ' ') queries are fresh."
else
    echo "Query metadata are stale: run 'make queries' and commit .sqlx." >&2
    exit 1
fi
