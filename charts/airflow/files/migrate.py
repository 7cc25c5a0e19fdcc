"""Waits for the database, then replaces itself with `airflow db migrate`."""

import os
import time

import psycopg2

url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
for attempt in range(150):
    try:
        psycopg2.connect(url, connect_timeout=5).close()
        break
    except psycopg2.OperationalError as away:
        if attempt == 149:
            raise
        print(f"waiting for the database: {str(away).strip().splitlines()[0]}", flush=True)
        time.sleep(2)
os.execvp("airflow", ["airflow", "db", "migrate"])  # noqa: S606 - the container's own program
