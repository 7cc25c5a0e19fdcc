#!/bin/sh
# Creates the database cluster at the first start. At every start it creates missing roles and databases, sets the
# passwords from the environment, and then runs the server. The server is not reachable from outside before that.
#   POSTGRES_PASSWORD    password of the superuser postgres
#   POSTGRES_DATABASES   database:owner,...
#   POSTGRES_ROLES       role or role:member_of,...
#   <ROLE>_PASSWORD      password of each owner and role
set -eu
[ "${1:-}" = postgres ] || exec "$@"
shift
: "${PGDATA:?}" "${POSTGRES_PASSWORD:?set it from the Secret postgres}"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  echo "entrypoint: initialising $PGDATA"
  rm -rf "$PGDATA" && mkdir -p "$PGDATA" && chmod 0700 "$PGDATA" # left by an interrupted first start
  printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
  initdb -D "$PGDATA" -U postgres --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 -E UTF8 \
    --locale=C.UTF-8 --data-checksums > /dev/null
  rm -f /tmp/password
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
fi
rm -f "$PGDATA/postmaster.pid" # left by a killed pod; only this pod uses the volume

sql() { psql -q -v ON_ERROR_STOP=1 -h /tmp -U postgres -d postgres "$@"; }
password() { eval "printf %s \"\${$(printf %s "$1" | tr '[:lower:]-' '[:upper:]_')_PASSWORD:?password of role $1}\""; }
ensure_role() {
  sql -v role="$1" -v password="$(password "$1")" << 'SQL'
select format('create role %I login', :'role') where not exists (select from pg_roles where rolname = :'role') \gexec
alter role :"role" password :'password';
SQL
}

pg_ctl -D "$PGDATA" -w -s -o "-c listen_addresses='' -c unix_socket_directories=/tmp" start
sql -v password="$POSTGRES_PASSWORD" << 'SQL'
alter role postgres password :'password';
SQL
for pair in $(printf %s "${POSTGRES_ROLES:-}" | tr ',' ' '); do
  ensure_role "${pair%%:*}"
  case $pair in
    *:?*) sql -v role="${pair%%:*}" -v group="${pair#*:}" << 'SQL'
grant :"group" to :"role";
SQL
      ;;
  esac
done
for pair in $(printf %s "${POSTGRES_DATABASES:-}" | tr ',' ' '); do
  ensure_role "${pair#*:}"
  sql -v database="${pair%%:*}" -v owner="${pair#*:}" << 'SQL'
select format('create database %I owner %I', :'database', :'owner')
  where not exists (select from pg_database where datname = :'database') \gexec
SQL
done
pg_ctl -D "$PGDATA" -w -s -m fast stop

exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off "$@"
