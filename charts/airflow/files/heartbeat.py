"""Exits with 0 if this pod's DAG processor wrote a heartbeat to the database within the last minute."""

import os
import socket
import sys

import psycopg2

url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
address = socket.gethostbyname(socket.gethostname())
with psycopg2.connect(url, connect_timeout=5) as connection, connection.cursor() as cursor:
    cursor.execute(
        "select extract(epoch from now() - max(latest_heartbeat)) from job"
        " where job_type = 'DagProcessorJob' and state = 'running' and hostname = %s",
        [address],
    )
    age = cursor.fetchone()[0]
print(f"last heartbeat {age} s ago")
sys.exit(0 if age is not None and age < 60 else 1)
