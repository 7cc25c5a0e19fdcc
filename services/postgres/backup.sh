#!/bin/sh
# Backs up the databases and the buckets to a target outside of their volumes, and restores them into empty ones.
#   backup.sh round         copies the WAL and the objects since the last round; makes a full backup if one is due
#   backup.sh full          makes a full backup now, verifies it, and deletes the oldest ones
#   backup.sh list          prints the full backups, the oldest first
#   backup.sh restore latest|ID [TIME]    fills the buckets and the missing folder $PGDATA, up to TIME if it is given
#
#   PGHOST, PGUSER, PGPASSWORD   server and role; the role needs REPLICATION and the right to call pg_switch_wal
#   S3_ENDPOINT             object store of the platform
#   BACKUP_BUCKETS          bucket:user,... with the keys <USER>_ACCESS_KEY and <USER>_SECRET_KEY
#   BACKUP_FOLDER           target: a folder
#   BACKUP_S3_ENDPOINT, _BUCKET, _PREFIX, _REGION, _ACCESS_KEY, _SECRET_KEY    or a target with the S3 API
#   BACKUP_KEEP             number of full backups that are kept
#   BACKUP_FULL_HOURS       age at which a round makes the next full backup
#   BACKUP_SCRATCH          folder for two copies of the databases
#   BACKUP_WAIT_SECONDS     seconds to wait for PostgreSQL and for each bucket, for example during an installation;
#                           default 300
#
# full/ID/base.tar.gz       a base backup              full/ID/manifest.json   written last: without it there is no backup
# full/ID/wal/              its WAL until the next     buckets/NAME/current/   the objects at the last round
# buckets/NAME/old/ROUND/   objects that this round found deleted or changed
#
# Each full backup has a replication slot of the same name until the next one is complete. The slot advances only after
# its WAL is at the target and was compared, so an interrupted round loses nothing: the next one continues.
set -euf
: "${BACKUP_SCRATCH:?}" "${BACKUP_BUCKETS:?}"
LOCK=72615004 # advisory lock in the database postgres: one backup at a time
export RCLONE_CONFIG='' RCLONE_CACHE_DIR="$BACKUP_SCRATCH" RCLONE_RETRIES_SLEEP=2s RCLONE_STATS=0 PGDATABASE=postgres
export PGCONNECT_TIMEOUT=10 PGAPPNAME=backup

say() { echo "backup: $*" >&2; }
refuse() {
  say "$*"
  exit 1
}
# Repeats a command until it succeeds; fails after BACKUP_WAIT_SECONDS.
patiently() {
  end_of_wait=$(($(date +%s) + ${BACKUP_WAIT_SECONDS:-300}))
  until "$@" > /dev/null 2> "$work/errors"; do
    [ "$(date +%s)" -lt "$end_of_wait" ] || return 1
    sleep 2
  done
}
sql() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }

# remotes

use_target() {
  if [ -z "${BACKUP_S3_ENDPOINT:-}" ]; then
    target=${BACKUP_FOLDER:?set it, or BACKUP_S3_ENDPOINT}
    return
  fi
  [ -n "${BACKUP_S3_ACCESS_KEY:-}" ] && [ -n "${BACKUP_S3_SECRET_KEY:-}" ] || refuse "the keys of the target are" \
    "missing: create the Secret that postgres.backup.target.s3.secret names, with ACCESS_KEY and SECRET_KEY."
  export RCLONE_CONFIG_TARGET_TYPE=s3 RCLONE_CONFIG_TARGET_PROVIDER=Other RCLONE_CONFIG_TARGET_NO_CHECK_BUCKET=true
  export RCLONE_CONFIG_TARGET_FORCE_PATH_STYLE=true RCLONE_CONFIG_TARGET_ENDPOINT="$BACKUP_S3_ENDPOINT"
  export RCLONE_CONFIG_TARGET_REGION="${BACKUP_S3_REGION:-us-east-1}"
  export RCLONE_CONFIG_TARGET_ACCESS_KEY_ID="$BACKUP_S3_ACCESS_KEY"
  export RCLONE_CONFIG_TARGET_SECRET_ACCESS_KEY="$BACKUP_S3_SECRET_KEY"
  target="target:${BACKUP_S3_BUCKET:?}/${BACKUP_S3_PREFIX:?}"
}

# Sets `bucket` to the name, and the remote `source:` to the object store with the keys of the bucket's user.
use_bucket() {
  bucket=${1%%:*}
  user=$(printf %s "${1#*:}" | tr '[:lower:]-' '[:upper:]_')
  eval "access=\${${user}_ACCESS_KEY:-} secret=\${${user}_SECRET_KEY:-}"
  [ -n "$access" ] && [ -n "$secret" ] || refuse "${user}_ACCESS_KEY or ${user}_SECRET_KEY is empty: the bucket" \
    "$bucket needs both in the Secret minio-users."
  export RCLONE_CONFIG_SOURCE_TYPE=s3 RCLONE_CONFIG_SOURCE_PROVIDER=Minio RCLONE_CONFIG_SOURCE_REGION=us-east-1
  export RCLONE_CONFIG_SOURCE_ENDPOINT="${S3_ENDPOINT:?}" RCLONE_CONFIG_SOURCE_NO_CHECK_BUCKET=true
  export RCLONE_CONFIG_SOURCE_ACCESS_KEY_ID="$access" RCLONE_CONFIG_SOURCE_SECRET_ACCESS_KEY="$secret"
}
# The Job minio-provision may create it later.
await_bucket() {
  patiently rclone lsf --max-depth 1 "source:$bucket" ||
    refuse "the bucket $bucket cannot be read: $(tail -n 1 "$work/errors")"
}
buckets() { printf %s "$BACKUP_BUCKETS" | tr ',' ' '; }

# Names in a folder of the target, sorted; nothing if the folder is missing. Any other failure ends the program: an
# unreachable target must not look like an empty one.
names() {
  status=0
  rclone lsf "$@" > "$work/names" 2> "$work/errors" || status=$?
  case $status in
    0) LC_ALL=C sort "$work/names" ;;
    3) ;; # the directory was not found
    *) refuse "the target $target cannot be read: $(tail -n 1 "$work/errors")" ;;
  esac
}

# Full backups that are complete, the oldest first.
complete() {
  names -R --files-only --include '/*/manifest.json' "$target/full" > "$work/complete" || exit 1
  sed -n 's|^\([0-9]\{8\}t[0-9]\{6\}z\)/manifest.json$|\1|p' "$work/complete"
}

new_id() { date -u +%Y%m%dt%H%M%Sz; }
epoch() { date -u -d "$(echo "$1" | sed 's/^\(.*\)t\(..\)\(..\)\(..\)z$/\1 \2:\3:\4/')" +%s; }

# one backup at a time

# Holds an advisory lock in a session in the background. The server ends the session within a second after this program.
take_lock() {
  patiently pg_isready -t 5 || refuse "no backup was made: PostgreSQL at ${PGHOST:-} does not accept connections."
  : > "$work/lock"
  PGOPTIONS='-c client_connection_check_interval=1s -c lock_timeout=900s' \
    psql -XqAt -v ON_ERROR_STOP=1 -c "select pg_advisory_lock($LOCK)" -c "select 'locked'" -c 'select pg_sleep(86400)' \
    > "$work/lock" 2>&1 &
  lock_pid=$!
  until grep -qx locked "$work/lock"; do
    kill -0 "$lock_pid" 2> /dev/null || refuse "no backup was made: $(tail -n 1 "$work/lock")"
    sleep 0.2
  done
}

finish() {
  status=$?
  trap - EXIT
  [ -z "$lock_pid" ] || kill "$lock_pid" 2> /dev/null || true
  [ -z "$server_pid" ] || { kill -INT "$server_pid" 2> /dev/null && wait "$server_pid"; } || true
  rm -rf "$work"
  exit "$status"
}

# WAL

slot_exists() { [ -n "$(sql -c "select 1 from pg_replication_slots where slot_name = '$1'")" ]; }
drop_slot() {
  tries=0
  while slot_exists "$1"; do
    ! sql -c "select pg_drop_replication_slot('$1')" > /dev/null 2> "$work/errors" || return 0
    tries=$((tries + 1)) # its receiver has ended, but the server may need a moment to notice
    [ "$tries" -lt 50 ] || refuse "the replication slot $1 cannot be dropped: $(tail -n 1 "$work/errors")"
    sleep 0.2
  done
}

# Full backups that have a slot, the oldest first.
slots() {
  sql -c "select substr(slot_name, 8) from pg_replication_slots where slot_name ~ '^backup_[0-9]{8}t[0-9]{6}z\$'
          and wal_status <> 'lost' order by 1"
}

# Copies the WAL from the slot of a full backup up to now. Segments are received with a copy of the slot, because a
# receiver advances its slot before anything is at the target.
copy_wal() {
  end=$(sql -c "
    with segment as (select setting::numeric as bytes from pg_settings where name = 'wal_segment_size'),
         switched as (select pg_wal_lsn_diff(pg_switch_wal(), '0/0') as at)
    select '0/0'::pg_lsn + ceil(at / bytes) * bytes from segment, switched")
  if [ "$(sql -c "select restart_lsn < '$end' from pg_replication_slots where slot_name = 'backup_$1'")" != t ]; then
    return 0
  fi
  drop_slot receive_backup
  sql -c "select pg_copy_physical_replication_slot('backup_$1', 'receive_backup')" > /dev/null
  rm -rf "$work/wal" && mkdir "$work/wal"
  # The last byte of the segment: the receiver then stops exactly when the segment is complete.
  pg_receivewal -D "$work/wal" --slot=receive_backup --endpos="$(sql -c "select '$end'::pg_lsn - 1")" --no-loop \
    --compress=gzip:1 > "$work/errors" 2>&1 || refuse "the WAL cannot be received: $(tail -n 1 "$work/errors")"
  rclone copy --exclude '*.partial' "$work/wal" "$target/full/$1/wal"
  rclone check --one-way --download --exclude '*.partial' "$work/wal" "$target/full/$1/wal" 2> "$work/errors" ||
    refuse "the WAL at the target differs from the received WAL: $(tail -n 1 "$work/errors")"
  sql -c "select pg_replication_slot_advance('backup_$1', '$end')" > /dev/null
  drop_slot receive_backup
  rm -rf "$work/wal"
}

# objects

# Makes the copies equal to the buckets, and keeps deleted and changed objects under `old`. Call it after the WAL: every
# object that a copied row refers to then existed before. `thorough` compares the bytes, else times and sizes decide.
copy_buckets() {
  for pair in $(buckets); do
    use_bucket "$pair"
    await_bucket
    current=$target/buckets/$bucket/current
    rclone mkdir "$current" # a folder as target lacks it as long as the bucket is empty
    options='--update --use-server-modtime'
    [ "$1" != thorough ] || options=--checksum
    tries=0
    while :; do
      # shellcheck disable=SC2086 # several options
      rclone sync $options --fast-list --backup-dir "$target/buckets/$bucket/old/$round" "source:$bucket" "$current"
      [ "$1" = thorough ] || break
      ! rclone check --one-way --download "source:$bucket" "$current" 2> "$work/errors" || break
      tries=$((tries + 1)) # an object may have been added since, or an equal size hid a difference
      options=--ignore-times
      [ "$tries" -lt 3 ] || refuse "the copy of the bucket $bucket differs: $(tail -n 1 "$work/errors")"
    done
  done
}

# full backups

full_backup() {
  id=$(new_id)
  round=$id
  say "full backup $id"
  sql -c "select pg_create_physical_replication_slot('backup_$id', true)" > /dev/null
  pg_basebackup -D "$work/base" -X stream --checkpoint=fast --manifest-checksums=SHA256 --label="$id"
  pg_verifybackup --quiet "$work/base" || refuse "the base backup is damaged. Nothing was copied; the older ones stay."
  tar -C "$work/base" -czf "$work/base.tar.gz" .
  rm -rf "$work/base"
  sha256=$(sha256sum < "$work/base.tar.gz") && sha256=${sha256%% *}
  bytes=$(stat -c %s "$work/base.tar.gz")
  rclone copyto "$work/base.tar.gz" "$target/full/$id/base.tar.gz"
  rm "$work/base.tar.gz"
  check_base "$id" "$sha256"
  copy_wal "$id"
  copy_buckets thorough
  manifest "$id" "$bytes" "$sha256" > "$work/manifest.json"
  rclone copyto "$work/manifest.json" "$target/full/$id/manifest.json"
  complete > "$work/all"
  slots > "$work/slots"
  for other in $(cat "$work/slots"); do # the WAL until here belongs to the previous backup as well
    [ "$other" = "$id" ] || finish_slot "$other"
  done
  record full "$id" "$bytes"
  record wal wal 0
  say "full backup $id is complete and verified: $bytes bytes, WAL until $end"
  forget
}

check_base() {
  actual=$(rclone cat "$target/full/$1/base.tar.gz" | sha256sum) && actual=${actual%% *}
  [ "$actual" = "$2" ] || refuse "full/$1/base.tar.gz is damaged at the target: its sha256 is $actual, expected is $2." \
    "Use another backup; \`backup.sh list\` shows them."
}

finish_slot() {
  ! grep -qx "$1" "$work/all" || copy_wal "$1"
  drop_slot "backup_$1"
}

manifest() {
  printf '{\n  "id": "%s",\n  "finished": "%s",\n  "postgres": "%s",\n  "system": "%s",\n' "$1" "$(date -u +%FT%TZ)" \
    "$(sql -c 'show server_version_num')" "$(sql -c 'select system_identifier from pg_control_system()')"
  printf '  "wal_end": "%s",\n  "base": {"bytes": %s, "sha256": "%s"},\n  "buckets": {' "$end" "$2" "$3"
  comma=''
  for pair in $(buckets); do
    size=$(rclone size --json "$target/buckets/${pair%%:*}/current")
    printf '%s\n    "%s": %s' "$comma" "${pair%%:*}" "$size"
    comma=,
  done
  printf '\n  }\n}\n'
}

# The row from which the metric and the alert come. A ledger without the table belongs to a platform without a run.
record() {
  sql -d ledger -c "insert into ledger.backups (id, kind, finished_at, bytes, wal_end)
      values ('$2', '$1', now(), $3, '$end')
      on conflict (id) do update set finished_at = excluded.finished_at, wal_end = excluded.wal_end" \
    > /dev/null 2> "$work/errors" ||
    say "the backup is good, but the ledger has no row of it: $(head -n 1 "$work/errors"). The next run of" \
      "the pipeline creates the table and grants the right."
}

# Deletes the oldest full backups, and what only they need. It runs after a new backup was verified, and keeps at least
# that one.
forget() {
  keep=${BACKUP_KEEP:?}
  [ "$keep" -ge 1 ] || keep=1
  complete > "$work/all"
  tail -n "$keep" "$work/all" > "$work/kept"
  oldest=$(head -n 1 "$work/kept")
  grep -qx "$id" "$work/kept" || refuse "the new backup $id is complete, but older by its name than the kept ones: the" \
    "clock of this node was wrong now or then. Nothing was deleted."
  for folder in $(names --dirs-only "$target/full"); do
    id=${folder%/}
    if ! grep -qx "$id" "$work/kept"; then
      say "deleting full/$id"
      # the manifest first: an interrupted deletion leaves no backup that looks complete
      rclone deletefile "$target/full/$id/manifest.json" 2> /dev/null || true
      rclone purge "$target/full/$id"
    fi
  done
  for pair in $(buckets); do
    for folder in $(names --dirs-only "$target/buckets/${pair%%:*}/old"); do
      # shellcheck disable=SC3012 # dash compares text
      [ ! "${folder%/}" \< "$oldest" ] || rclone purge "$target/buckets/${pair%%:*}/old/${folder%/}"
    done
  done
}

next_round() {
  round=$(new_id)
  current=''
  complete > "$work/all"
  slots > "$work/slots"
  for id in $(cat "$work/slots"); do
    if grep -qx "$id" "$work/all"; then current=$id; else drop_slot "backup_$id"; fi
  done
  sql -c "select slot_name from pg_replication_slots where slot_name ~ '^backup_' and wal_status = 'lost'" \
    > "$work/lost"
  for slot in $(cat "$work/lost"); do
    say "the WAL of $slot is lost, because it exceeded max_slot_wal_keep_size: a full backup is due"
    drop_slot "$slot"
  done
  if [ -z "$current" ] || [ $(($(date +%s) - $(epoch "$current"))) -ge $((${BACKUP_FULL_HOURS:?} * 3600)) ]; then
    full_backup
    return
  fi
  copy_wal "$current"
  copy_buckets quick
  record wal wal 0
  say "round $round: WAL until $end, and the buckets"
}

# restore

choose() {
  complete > "$work/all"
  if [ "$1" = latest ] && [ -n "$2" ]; then
    before=$(date -u -d "$2" +%Y%m%dt%H%M%Sz)
    chosen=''
    for id in $(cat "$work/all"); do
      # shellcheck disable=SC3012 # dash compares text
      [ ! "$(finished "$id")" \< "$before" ] || chosen=$id
    done
    [ -n "$chosen" ] || refuse "no full backup was finished before $2: $(tr '\n' ' ' < "$work/all")"
  elif [ "$1" = latest ]; then
    chosen=$(tail -n 1 "$work/all")
    [ -n "$chosen" ] || refuse "$target has no complete backup."
  else
    chosen=$1
    grep -qx -e "$chosen" "$work/all" ||
      refuse "$target has no complete backup $chosen, but $(tr '\n' ' ' < "$work/all")"
  fi
}
field() { sed -n "s/.*\"$2\": \"\{0,1\}\([^\",}]*\).*/\1/p" "$1"; }
finished() {
  rclone cat "$target/full/$1/manifest.json" > "$work/manifest.json"
  date -u -d "$(field "$work/manifest.json" finished)" +%Y%m%dt%H%M%Sz
}

# A missing segment would end the recovery early without an error.
check_sequence() {
  previous=''
  for name in $(cd "$1" && find . -name '*.gz' | sed -n 's|^./\([0-9A-F]\{24\}\)\.gz$|\1|p' | sort); do
    gzip -t "$1/$name.gz" || refuse "the WAL segment $name is damaged. Restore another backup, or up to an earlier time."
    log=$(printf %s "$name" | cut -c 9-16) segment=$(printf %s "$name" | cut -c 17-24)
    number=$((0x$log * 256 + 0x$segment))
    [ -z "$previous" ] || [ "$number" -eq $((previous + 1)) ] ||
      refuse "the WAL has a gap before the segment $name. Restore another backup, or up to a time before the gap."
    previous=$number
  done
}

restore_database() {
  [ ! -d "$PGDATA" ] || refuse "$PGDATA exists. Nothing was changed: a restore needs an empty volume."
  new=$PGDATA.restore
  rm -rf "$new"
  say "restoring full backup $chosen"
  rclone cat "$target/full/$chosen/manifest.json" > "$work/manifest.json"
  sha256=$(field "$work/manifest.json" sha256)
  [ -n "$sha256" ] || refuse "full/$chosen/manifest.json has no sha256. Use another backup."
  rclone copyto "$target/full/$chosen/base.tar.gz" "$work/base.tar.gz"
  actual=$(sha256sum < "$work/base.tar.gz") && actual=${actual%% *}
  [ "$actual" = "$sha256" ] || refuse "full/$chosen/base.tar.gz is damaged: its sha256 is $actual, the manifest says" \
    "$sha256. Nothing was restored. Use another backup."
  mkdir -m 0700 "$new"
  tar -C "$new" -xzf "$work/base.tar.gz"
  rm "$work/base.tar.gz"
  pg_verifybackup --quiet "$new" || refuse "the unpacked backup differs from its manifest. Use another backup."
  mkdir "$work/wal"
  rclone copy "$target/full/$chosen/wal" "$work/wal"
  check_sequence "$work/wal"
  recover "$1"
  sync -f "$new"
  mv -T "$new" "$PGDATA"
  say "the databases are restored"
}

# Replays the WAL with a server that nobody reaches. Without hot_standby it accepts connections only after the recovery.
recover() {
  : > "$new/recovery.signal"
  postgres -D "$new" -c listen_addresses='' -c unix_socket_directories="$work" -c hot_standby=off -c archive_mode=off \
    -c restore_command="gzip -dc '$work/wal/%f.gz' > '%p' 2> /dev/null" -c recovery_target_timeline=current \
    ${1:+-c "recovery_target_time=$1"} -c recovery_target_action=promote &
  server_pid=$!
  until pg_isready -q -h "$work"; do
    kill -0 "$server_pid" 2> /dev/null || {
      server_pid=''
      refuse "the recovery ended with an error: see the messages of the server above. Nothing was restored." \
        "${1:+If it ended before the target, the backup has no transaction after $1: restore without a time.}"
    }
    sleep 1
  done
  kill -INT "$server_pid"
  wait "$server_pid" || true
  server_pid=''
}

# Existing objects stay as they are, so the first copy wins: the objects that rounds after the wanted moment found deleted
# or changed, the oldest round first, and then the current ones. Later objects are restored, too; no row refers to them.
restore_buckets() {
  for pair in $(buckets); do
    use_bucket "$pair"
    await_bucket
    layers=''
    if [ -n "$1" ]; then
      for folder in $(names --dirs-only "$target/buckets/$bucket/old"); do
        # shellcheck disable=SC3012 # dash compares text
        [ ! "${folder%/}" \> "$1" ] || layers="$layers old/${folder%/}"
      done
    fi
    for layer in $layers current; do
      rclone copy --ignore-existing --fast-list "$target/buckets/$bucket/$layer" "source:$bucket"
    done
    if [ -z "$layers" ]; then
      rclone check --one-way --download "$target/buckets/$bucket/current" "source:$bucket" 2> "$work/errors" ||
        refuse "the restored bucket $bucket differs from its copy: $(tail -n 1 "$work/errors")"
    fi
    say "the bucket $bucket is restored"
  done
}

restore() {
  : "${PGDATA:?}"
  until=''
  if [ -n "$2" ]; then # PostgreSQL takes no name of a time zone here, such as Z
    until=$(date -u -d "$2" '+%F %T.%6N+00' 2> /dev/null) || refuse "'$2' is not a time. Example: 2026-11-29T12:00:00Z"
  fi
  choose "$1" "$2"
  since=''
  if [ -n "$2" ]; then
    since=$(date -u -d "$2" +%Y%m%dt%H%M%Sz)
  elif [ "$chosen" != "$(tail -n 1 "$work/all")" ]; then
    since=$chosen
  fi
  [ ! -d "$PGDATA" ] || refuse "$PGDATA exists. Nothing was changed: a restore needs an empty volume."
  restore_buckets "$since"
  restore_database "$until"
}

lock_pid=''
server_pid=''
work=$(mktemp -d "$BACKUP_SCRATCH/backup.XXXXXX")
trap finish EXIT
trap 'exit 143' INT TERM
use_target
case ${1:-} in
  round) take_lock && next_round ;;
  full) take_lock && full_backup ;;
  list) complete ;;
  restore) restore "${2:?latest, or the name of a full backup}" "${3:-}" ;;
  *) refuse "unknown command '${1:-}': use round, full, list or restore." ;;
esac
