"""The DAG draws pipeline.STAGES, hands references on, and is understood by Airflow's own DAG processor."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import DownstreamTasksSkipped, ParamValidationError
from kubernetes.client import ApiClient

from pipeline import STAGES, Stage

from .conftest import COMMIT, DAGS, DIGEST

if TYPE_CHECKING:
    from airflow.sdk import DAG


STAGE = {stage.name: stage for stage in STAGES}


class Results:
    """A task instance that knows what the stages before it reported."""

    def __init__(self, results: dict[str, dict[str, object]]) -> None:
        self.results = results

    def xcom_pull(self, task_ids: str, key: str) -> dict[str, object]:
        assert key == "result"
        return self.results[task_ids]


def test_tasks_are_the_stages_and_edges_their_answers(pipeline_dag: DAG) -> None:
    assert {task.task_id for task in pipeline_dag.tasks} == {stage.name for stage in STAGES}
    for stage in STAGES:
        assert pipeline_dag.get_task(stage.name).downstream_task_ids == set(stage.then.values())
        for answer, following in stage.then.items():
            assert pipeline_dag.get_edge_info(stage.name, following).get("label", "") == answer


def test_every_stage_is_reached_and_every_way_ends_in_the_report() -> None:
    assert STAGE["fetch"] is STAGES[0]
    for stage in STAGES:
        assert stage is STAGES[0] or any(stage.name in other.then.values() for other in STAGES), f"no way to {stage}"
        assert stage.then or stage.name == "report", f"{stage.name} leads nowhere"
        assert len(stage.then) != 1 or "" in stage.then, f"{stage.name} has one way: nobody asks for an answer"
        assert len(stage.then) < 2 or "" not in stage.then, f"{stage.name} has several ways: each needs its answer"


Way = tuple[str, ...]


def ways(stage: Stage) -> list[Way]:
    """Every way from a stage to the end."""
    rest = [way for name in stage.then.values() for way in ways(STAGE[name])]
    return [(stage.name, *way) for way in rest] or [(stage.name,)]


@pytest.mark.parametrize("way", ways(STAGES[0]), ids=lambda way: " ".join(way[3:-1]))
def test_airflow_runs_the_stages_of_a_way_and_skips_the_others(pipeline_dag: DAG, way: Way) -> None:
    """As the scheduler does: what a branch skips is skipped, and a task follows its trigger rule."""
    states: dict[str, str] = {}
    skipped: set[str] = set()
    for task in pipeline_dag.topological_sort():
        above = [states[name] for name in task.upstream_task_ids]
        if task.task_id in skipped:
            states[task.task_id] = "skipped"
        elif task.trigger_rule == "all_success":
            states[task.task_id] = "success" if all(state == "success" for state in above) else "skipped"
        else:
            assert task.trigger_rule == "none_failed_min_one_success"
            states[task.task_id] = "success" if "success" in above else "skipped"
        if states[task.task_id] == "success" and len(STAGE[task.task_id].then) > 1:
            skipped |= direct_skips(task, way[way.index(task.task_id) + 1])
    assert {name for name, state in states.items() if state == "success"} == set(way)


def direct_skips(task: Any, chosen: str) -> set[str]:
    """What Airflow's own branching skips."""
    ti = SimpleNamespace(task=task, map_index=-1, xcom_push=lambda **_: None)
    try:
        task.skip_all_except(ti, chosen)
    except DownstreamTasksSkipped as skips:
        return {name for name, _ in skips.tasks}
    return set()


def test_at_the_end_of_data_all_is_skipped(pipeline_dag: DAG) -> None:
    report = pipeline_dag.get_task("report")
    assert report.trigger_rule == "none_failed_min_one_success", "with all upstream skipped it is skipped too"
    assert "fetch" not in report.upstream_task_ids


def test_each_stage_gets_its_memory_and_its_documentation(pipeline_dag: DAG) -> None:
    for stage in STAGES:
        task = pipeline_dag.get_task(stage.name)
        assert task.container_resources.limits["memory"] == stage.memory
        assert task.doc_md == stage.doc


def test_references_are_given_before_they_are_needed() -> None:
    for way in ways(STAGES[0]):
        given: set[str] = set()
        for stage in map(STAGE.__getitem__, way):
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
        found = dict(database.execute("select dag_id, timetable_summary from dag").fetchall())
        assert found == {"house_price_pipeline": schedule, "house_price_rollback": "None"}
        stored = dict(database.execute("select dag_id, data from serialized_dag").fetchall())
    tasks = [task["__var"]["task_id"] for task in json.loads(stored["house_price_pipeline"])["dag"]["tasks"]]
    assert tasks == [stage.name for stage in STAGES]


def test_rollback_takes_its_version_and_reason_from_the_form(dags: dict[str, DAG]) -> None:
    dag = dags["house_price_rollback"]
    [task] = dag.tasks
    ready = task.prepare_for_execution()
    ready.render_template_fields({"params": {"to": "3", "reason": "it's --absurd"}, "run_id": "manual__1"})
    assert ready.arguments == ["rollback", "--to=3", "--reason=it's --absurd"]
    with pytest.raises(ParamValidationError):
        dag.params.validate()


def test_missing_setting_is_one_sentence() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PIPELINE_IMAGE"}
    command = [sys.executable, "house_price_pipeline.py"]
    done = subprocess.run(command, cwd=DAGS, env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(
        "PIPELINE_IMAGE not set in the Airflow containers: "
        "charts/airflow renders them from the values under airflow.pipeline"
    ), done.stderr
