"""Airflow refuses DAGs whose tasks would run inside the scheduler, or without limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .conftest import DAGS

CONFIG = DAGS.parent / "config"
BROKEN = """
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from kubernetes.client import models as k8s

LIMITS = k8s.V1ResourceRequirements(limits={{"cpu": "1", "memory": "64Mi"}})
with DAG("{name}", schedule=None):
    {task}
"""
TASKS = {
    "inside_the_scheduler": "PythonOperator(task_id='t', python_callable=print)",
    "without_limits": "KubernetesPodOperator(task_id='t', image='i', active_deadline_seconds=9)",
    "without_end": "KubernetesPodOperator(task_id='t', image='i', container_resources=LIMITS)",
    "bounded": "KubernetesPodOperator(task_id='t', image='i', container_resources=LIMITS, active_deadline_seconds=9)",
}


def test_only_pods_with_limits_and_deadline_pass(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    for name, task in TASKS.items():
        (dags / f"{name}.py").write_text(BROKEN.format(name=name, task=task))
    code = (
        "import json, pathlib, sys\n"
        "from airflow.dag_processing.dagbag import BundleDagBag\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name='b')\n"
        "print(json.dumps([sorted(bag.dags), bag.import_errors]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(CONFIG), "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, dags], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    passed, errors = json.loads(done.stdout.strip().splitlines()[-1])
    assert passed == ["bounded"]
    messages = {Path(file).stem: text.strip().splitlines()[-1] for file, text in errors.items()}
    assert "would run inside the scheduler. Use StagePod" in messages["inside_the_scheduler"]
    assert "has no limit of memory and cpu" in messages["without_limits"]
    assert "has no deadline" in messages["without_end"]
