#!/bin/sh
# Creates the database cluster at the first start. At every start it creates missing roles and databases, sets the
# passwords and connection limits from the environment, and then runs the server. The server is not reachable from outside before that.
#   POSTGRES_PASSWORD    password of the superuser postgres
#   POSTGRES_DATABASES   database:owner,...
#   POSTGRES_ROLES       role or role:member_of,...
#   POSTGRES_CLIENTS     database:role,... that may connect besides the owner of the database
#   POSTGRES_BACKUP_ROLE   role that may copy the whole server; empty: none
#   POSTGRES_CONNECTION_LIMITS  role:number,... of connections at a time; a role that is not listed has no limit
#   <ROLE>_PASSWORD      password of each owner and role
#   POSTGRES_LOCK_SECONDS  seconds to wait for another server on the same volume to end; default 30
# It deletes only what it made itself: the folder $PGDATA.new of an interrupted first start, and the postmaster.pid of a
# server that has ended. Passwords travel in the environment and on standard input, never as arguments.
set -euf
[ "${1:-}" = postgres ] || exec "$@"
shift
: "${PGDATA:?}" "${POSTGRES_PASSWORD:?set it from the Secret postgres}"

say() { echo "entrypoint: $*" >&2; }
refuse() {
  say "$*"
  exit 1
}

# Only one server may use the volume. Every process of the server inherits descriptor 9, so the lock is free only when
# the last of them has ended, however the server ended.
lock_volume() {
  exec 9>> "$PGDATA.lock"
  status=0
  flock -n 9 || status=$? # 1: locked by another process
  case $status in
    0) return ;;
    1) ;;
    *) refuse "$PGDATA.lock cannot be locked. Use a file system with locks (flock) for this volume." ;;
  esac
  say "another server uses $PGDATA: $PGDATA.lock is locked. Waiting up to ${POSTGRES_LOCK_SECONDS:=30} s for its end."
  flock -w "$POSTGRES_LOCK_SECONDS" 9 || refuse "another server still uses $PGDATA after $POSTGRES_LOCK_SECONDS s." \
    "Nothing was changed. Stop the other pod that mounts this volume; this one then starts."
}

# initdb works in $PGDATA.new/data, which becomes $PGDATA when it is complete. The file `incomplete` marks the folder as
# ours, and is deleted after the data, so that an interrupted removal continues at the next start.
remove_incomplete() {
  [ -d "$PGDATA.new" ] || return 0
  [ -e "$PGDATA.new/incomplete" ] || rmdir "$PGDATA.new" 2> /dev/null || refuse \
    "$PGDATA.new has content that this program did not make. Move it to another name: a first start needs this name."
  rm -rf "$PGDATA.new/data" && rm -rf "$PGDATA.new"
}

initialise() {
  remove_incomplete
  say "initialising $PGDATA"
  mkdir "$PGDATA.new" && : > "$PGDATA.new/incomplete" && mkdir -m 0700 "$PGDATA.new/data"
  initdb -D "$PGDATA.new/data" -U postgres --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --locale=C.UTF-8 \
    --data-checksums > /dev/null
  echo 'host all all all scram-sha-256' >> "$PGDATA.new/data/pg_hba.conf"
  sync "$PGDATA.new/data/pg_hba.conf"
  mv -T "$PGDATA.new/data" "$PGDATA"
  sync "$(dirname "$PGDATA")"
  remove_incomplete
}

# Continues with a folder of this major version, or with no folder. Refuses every other one and leaves it as it is.
check_data() {
  entries=$(ls -A "$PGDATA" 2> /dev/null | grep -vcx 'lost+found' || true)
  version=''
  [ ! -s "$PGDATA/PG_VERSION" ] || read -r version < "$PGDATA/PG_VERSION" || true
  server=$(postgres --version) && server=${server#*) } && server=${server%%[!0-9]*}
  if [ "$version" = "$server" ]; then
    return
  elif [ -n "$version" ]; then
    refuse "$PGDATA has data of PostgreSQL $version, and this server is PostgreSQL $server. Nothing was changed. Run" \
      "an image with PostgreSQL $version again, or move the data with a dump: docs/how-to/upgrade-postgres.md"
  elif [ "$entries" -gt 0 ]; then
    refuse "$PGDATA cannot be initialised: PG_VERSION is empty or missing but the folder has $entries entries." \
      "Nothing was changed. Restore the folder from a backup; or, to start with empty databases, move its content away."
  elif [ -d "$PGDATA" ] && ! rmdir "$PGDATA"; then
    refuse "$PGDATA is empty but cannot be replaced: it is the root of a file system, or belongs to another user. Set" \
      "PGDATA to a folder below it."
  fi
}

# Statements for psql. They hold names, and no passwords: psql reads those with \getenv, and quotes both.
roles_and_databases() {
  role postgres
  for pair in $(printf %s "${POSTGRES_ROLES:-}" | tr ',' ' '); do
    role "${pair%%:*}"
    case $pair in *:?*) member "${pair%%:*}" "${pair#*:}" ;; esac
  done
  for pair in $(printf %s "${POSTGRES_DATABASES:-}" | tr ',' ' '); do
    role "${pair#*:}"
    database "${pair%%:*}" "${pair#*:}"
  done
  [ -z "${POSTGRES_BACKUP_ROLE:-}" ] || backup_role "$POSTGRES_BACKUP_ROLE"
  for pair in $(printf %s "${POSTGRES_CLIENTS:-}" | tr ',' ' '); do
    client "${pair%%:*}" "${pair#*:}"
  done
}
role() {
  check_name "$1"
  variable=$(printf %s "$1" | tr '[:lower:]-' '[:upper:]_')_PASSWORD
  eval "[ -n \"\${$variable:-}\" ]" || refuse "$variable is empty: add this key, the password of the role $1, to the" \
    "Secret postgres."
  limit=-1 # no limit
  for entry in $(printf %s "${POSTGRES_CONNECTION_LIMITS:-}" | tr ',' ' '); do
    [ "${entry%%:*}" != "$1" ] || limit=${entry#*:}
  done
  case $limit in
    -1) ;;
    '' | *[!0-9]*) refuse "the limit '$limit' of the role $1 in POSTGRES_CONNECTION_LIMITS is not a whole number." ;;
  esac
  cat << SQL
\set role '$1'
\getenv password $variable
select format('create role %I login', :'role') where not exists (select from pg_roles where rolname = :'role') \gexec
alter role :"role" connection limit $limit password :'password';
SQL
}
member() {
  check_name "$2"
  cat << SQL
\set role '$1'
\set member_of '$2'
grant :"member_of" to :"role";
SQL
}
database() {
  check_name "$1"
  cat << SQL
\set database '$1'
\set owner '$2'
select format('create database %I owner %I', :'database', :'owner')
  where not exists (select from pg_database where datname = :'database') \gexec
select distinct format('revoke all on database %I from %s', datname, coalesce(rolname, 'public'))
  from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) as given
  left join pg_roles on pg_roles.oid = grantee where datname = :'database' and grantee <> datdba \gexec
SQL
}
client() {
  check_name "$1"
  check_name "$2"
  cat << SQL
\set database '$1'
\set role '$2'
grant connect on database :"database" to :"role";
SQL
}
backup_role() {
  role "$1"
  cat << SQL
\set role '$1'
alter role :"role" replication;
grant execute on function pg_switch_wal() to :"role";
SQL
}
check_name() {
  case $1 in
    '' | *[!A-Za-z0-9_-]* | [!A-Za-z]*)
      refuse "the name '$1' in POSTGRES_ROLES, _DATABASES or _CLIENTS is not made of letters, digits, - and _." ;;
  esac
}

# The word `all` of the other rule does not include connections for replication. Older data folders lack this rule, too.
admit_backups() {
  [ -n "${POSTGRES_BACKUP_ROLE:-}" ] || return 0
  rule="host replication $POSTGRES_BACKUP_ROLE all scram-sha-256"
  grep -qxF "$rule" "$PGDATA/pg_hba.conf" || echo "$rule" >> "$PGDATA/pg_hba.conf"
}

# The server without TCP, for roles_and_databases. Crash recovery happens here and takes as long as it takes:
# an end before its time would only begin it again.
start_server() {
  postgres -D "$PGDATA" "$@" -c listen_addresses='' -c unix_socket_directories=/tmp &
  pid=$!
  trap 'stop_server; exit 143' INT TERM
  trap stop_server EXIT
  tries=0
  until pg_isready -q -h /tmp -U postgres; do
    kill -0 "$pid" 2> /dev/null || refuse "the server ended during its start: see its messages above. The data in" \
      "$PGDATA was not deleted."
    sleep 0.2 # short, because a start without recovery takes less than a second
    tries=$((tries + 1))
    [ $((tries % 150)) -ne 0 ] || say "waiting for the server, which replays its log after a crash:" \
      "$((tries / 5)) s so far"
  done
}
stop_server() {
  [ -n "$pid" ] || return 0
  kill -INT "$pid" 2> /dev/null || true
  wait "$pid" || true
  pid=''
}

statements=$(roles_and_databases)
lock_volume
check_data
if [ ! -d "$PGDATA" ]; then initialise; fi
admit_backups
rm -f "$PGDATA/postmaster.pid" # the lock proves that its server has ended; another process may have its number
start_server "$@"
# A failed statement must not put a password into the log of the server.
PGOPTIONS='-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic' \
  psql -X -q -v ON_ERROR_STOP=1 -h /tmp -U postgres -d postgres << SQL
$statements
SQL
stop_server
trap - INT TERM EXIT

exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off "$@"
