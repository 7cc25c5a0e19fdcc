"""The DAG draws pipeline.STAGES, hands references on, and is understood by Airflow's own DAG processor."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes.client import ApiClient

from pipeline import STAGES

from .conftest import COMMIT, DAGS, DIGEST

if TYPE_CHECKING:
    from airflow.sdk import DAG


class Results:
    """A task instance that knows what the stages before it reported."""

    def __init__(self, results: dict[str, dict[str, object]]) -> None:
        self.results = results

    def xcom_pull(self, task_ids: str, key: str) -> dict[str, object]:
        assert key == "result"
        return self.results[task_ids]


def test_tasks_are_the_stages_in_their_order(pipeline_dag: DAG) -> None:
    assert [task.task_id for task in pipeline_dag.topological_sort()] == [stage.name for stage in STAGES]
    for before, after in itertools.pairwise(STAGES):
        assert pipeline_dag.get_task(before.name).downstream_task_ids == {after.name}


def test_each_stage_gets_its_memory_and_its_documentation(pipeline_dag: DAG) -> None:
    for stage in STAGES:
        task = pipeline_dag.get_task(stage.name)
        assert task.container_resources.limits["memory"] == stage.memory
        assert task.doc_md == stage.doc


def test_references_are_given_before_they_are_needed() -> None:
    given: set[str] = set()
    for stage in STAGES:
        assert set(stage.needs) <= given, f"{stage.name} needs what no stage before it gives: {stage.needs}"
        given |= set(stage.gives)


def test_references_become_arguments(pipeline_dag: DAG) -> None:
    reported: dict[str, dict[str, object]] = {
        stage.name: {name: f"{name}-of-{stage.name}" for name in stage.gives} for stage in STAGES
    }
    values = {name: f"{name}-of-{stage.name}" for stage in reversed(STAGES) for name in stage.gives}
    for stage in STAGES:
        task = pipeline_dag.get_task(stage.name).prepare_for_execution()
        task.render_template_fields({"ti": Results(reported), "run_id": "manual__1"})
        expected = [word for name in stage.needs for word in (f"--{name.replace('_', '-')}", values[name])]
        assert task.arguments == [stage.name, *expected]
        env = {
            item["name"]: item["value"]
            for item in ApiClient().sanitize_for_serialization(task.build_pod_request_obj(dry_run=True))["spec"][
                "containers"
            ][0]["env"]
        }
        assert env == {
            "CODE_VERSION": "0.1.0-3f2a91bc77de",
            "COMMIT": COMMIT,
            "IMAGE_DIGEST": DIGEST,
            "RUN_ID": "manual__1",
        }


def test_every_stages_pod_carries_commit_and_digest(pipeline_dag: DAG) -> None:
    for task in pipeline_dag.tasks:
        pod = task.prepare_for_execution().build_pod_request_obj(dry_run=True)
        wanted = {"house-platform/commit": COMMIT, "house-platform/image-digest": DIGEST}
        assert wanted.items() <= pod.metadata.annotations.items(), task.task_id


def test_only_the_first_stage_reaches_the_data_api(pipeline_dag: DAG) -> None:
    reaching = [task.task_id for task in pipeline_dag.tasks if "access/data-api" in task.labels]
    assert reaching == [STAGES[0].name]


def test_without_a_schedule_runs_are_started_by_hand(pipeline_dag: DAG) -> None:
    assert type(pipeline_dag.timetable).__name__ == "NullTimetable"


def test_the_dag_processor_takes_it(tmp_path: Path) -> None:
    """Airflow's own processor, in its own process and with its own database, stores the DAG without an error."""
    schedule = "*/30 * * * *"
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "PYTHONPATH": str(DAGS.parent / "config"),  # with the cluster policy
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs"),
        "PIPELINE_SCHEDULE": schedule,
    }

    def airflow(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    airflow("db", "migrate")
    airflow("dag-processor", "--num-runs", "1")
    with sqlite3.connect(tmp_path / "airflow.db") as database:
        assert database.execute("select filename, stacktrace from import_error").fetchall() == []
        [(dag_id, timetable)] = database.execute("select dag_id, timetable_summary from dag").fetchall()
        assert dag_id == "house_price_pipeline"
        assert timetable == schedule
        [(stored,)] = database.execute("select data from serialized_dag").fetchall()
    tasks = [task["__var"]["task_id"] for task in json.loads(stored)["dag"]["tasks"]]
    assert tasks == [stage.name for stage in STAGES]


def test_missing_setting_is_one_sentence() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PIPELINE_IMAGE"}
    command = [sys.executable, "house_price_pipeline.py"]
    done = subprocess.run(command, cwd=DAGS, env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(
        "PIPELINE_IMAGE not set in the Airflow containers: "
        "charts/airflow renders them from the values under airflow.pipeline"
    ), done.stderr
