"""Deletes old rows of Airflow's metadata by `airflow db clean`. Refuses if the clock looks wrong.

Reads KEEP_DAYS. Idempotent. The time of the last deletion is kept in the table `retention_clock` of Airflow's database:
a clock that jumps forward makes all runs old.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg2

# A longer pause means that the platform was off, that the database was restored, or that the clock is wrong. Only a
# person can tell which.
PAUSE = timedelta(days=7)
DRIFT = timedelta(hours=1)  # between the clocks of this pod and of the database
CONFIRM = "update retention_clock set seen_at = now()"

url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
keep = timedelta(days=int(os.environ["KEEP_DAYS"]))

connection = psycopg2.connect(url, connect_timeout=5)
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("create table if not exists retention_clock (seen_at timestamptz not null)")
cursor.execute("insert into retention_clock (seen_at) select now() where not exists (select from retention_clock)")
cursor.execute("select now(), seen_at, pg_database_size(current_database()) from retention_clock")
now, seen, size = cursor.fetchone()

if abs(datetime.now(UTC) - now) > DRIFT:
    sys.exit(
        f"this pod's clock and the database's clock ({now:%Y-%m-%d %H:%M}) differ by more than {DRIFT}. Nothing was "
        "deleted: correct the clocks of the nodes"
    )
if now - seen > PAUSE:
    sys.exit(
        f"the database's clock reads {now:%Y-%m-%d %H:%M}, and old rows were last deleted at {seen:%Y-%m-%d %H:%M}. "
        "Nothing was deleted, because the clock may be wrong. If it is right, run this in the database airflow: "
        f"{CONFIRM}"
    )

before = (now - keep).isoformat(timespec="seconds")
print(f"deleting rows before {before}; the database has {size / 1e6:.1f} MB", flush=True)
subprocess.run(
    ["airflow", "db", "clean", "--clean-before-timestamp", before, "--skip-archive", "--batch-size", "10000",
     "--error-on-cleanup-failure", "--yes"],
    check=True,
)  # fmt: skip
cursor.execute(CONFIRM)
cursor.execute("select pg_database_size(current_database())")
print(f"done; the database has {cursor.fetchone()[0] / 1e6:.1f} MB. Freed space is used again", flush=True)
