"""Waits for the database, then runs `airflow db migrate`, again if a lost connection ended it."""

import os
import subprocess
import sys
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
for attempt in (1, 2, 3):
    code = subprocess.run(["airflow", "db", "migrate"], check=False).returncode
    if code == 0:
        break
    print(f"attempt {attempt} of 3: `airflow db migrate` ended with code {code}", flush=True)
    if attempt < 3:
        time.sleep(5)
sys.exit(code)
