"""The DAG follows pipeline.STAGES, passes references on, and is accepted by Airflow's DAG processor."""

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

BY_ADMIN = SimpleNamespace(triggering_user_name="admin")  # what templates read of a DAG run

if TYPE_CHECKING:
    from airflow.sdk import DAG


STAGE = {stage.name: stage for stage in STAGES}


class Results:
    """A fake task instance with the results of earlier stages."""

    def __init__(self, results: dict[str, dict[str, object]]) -> None:
        self.results = results

    def xcom_pull(self, task_ids: str, key: str) -> dict[str, object]:
        assert key == "result"
        return self.results[task_ids]


def test_tasks_are_the_stages_and_edges_have_their_answers(pipeline_dag: DAG) -> None:
    assert {task.task_id for task in pipeline_dag.tasks} == {stage.name for stage in STAGES}
    for stage in STAGES:
        assert pipeline_dag.get_task(stage.name).downstream_task_ids == set(stage.then.values())
        for answer, following in stage.then.items():
            assert pipeline_dag.get_edge_info(stage.name, following).get("label", "") == answer


def test_every_stage_is_reachable_and_every_path_ends_in_the_report() -> None:
    assert STAGE["fetch"] is STAGES[0]
    for stage in STAGES:
        assert stage is STAGES[0] or any(stage.name in other.then.values() for other in STAGES), f"no path to {stage}"
        assert stage.then or stage.name == "report", f"{stage.name} has no successor"
        assert len(stage.then) != 1 or "" in stage.then, f"{stage.name} has one successor, so its answer must be empty"
        assert len(stage.then) < 2 or "" not in stage.then, (
            f"{stage.name} has several successors, so each needs an answer"
        )


StagePath = tuple[str, ...]


def paths(stage: Stage) -> list[StagePath]:
    """Every path from a stage to the end."""
    rest = [path for name in stage.then.values() for path in paths(STAGE[name])]
    return [(stage.name, *path) for path in rest] or [(stage.name,)]


@pytest.mark.parametrize("path", paths(STAGES[0]), ids=lambda path: " ".join(path[3:-1]))
def test_airflow_runs_the_stages_of_a_path_and_skips_the_others(pipeline_dag: DAG, path: StagePath) -> None:
    """Like the scheduler: applies the skips of branches and the trigger rules of tasks."""
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
            skipped |= direct_skips(task, path[path.index(task.task_id) + 1])
    assert {name for name, state in states.items() if state == "success"} == set(path)


def direct_skips(task: Any, chosen: str) -> set[str]:
    """The tasks that Airflow's branching skips."""
    ti = SimpleNamespace(task=task, map_index=-1, xcom_push=lambda **_: None)
    try:
        task.skip_all_except(ti, chosen)
    except DownstreamTasksSkipped as skips:
        return {name for name, _ in skips.tasks}
    return set()


def test_all_stages_are_skipped_at_the_end_of_the_data(pipeline_dag: DAG) -> None:
    report = pipeline_dag.get_task("report")
    assert report.trigger_rule == "none_failed_min_one_success", "the report must be skipped if all upstream tasks are"
    assert "fetch" not in report.upstream_task_ids


def test_each_stage_gets_its_memory_and_its_documentation(pipeline_dag: DAG) -> None:
    for stage in STAGES:
        task = pipeline_dag.get_task(stage.name)
        assert task.container_resources.limits["memory"] == stage.memory
        assert task.doc_md == stage.doc


def test_references_are_produced_before_they_are_needed() -> None:
    for path in paths(STAGES[0]):
        produced: set[str] = set()
        for stage in map(STAGE.__getitem__, path):
            assert set(stage.needs) <= produced, (
                f"{stage.name} needs references that no earlier stage produces: {stage.needs}"
            )
            produced |= set(stage.gives)


def test_references_become_arguments(pipeline_dag: DAG) -> None:
    reported: dict[str, dict[str, object]] = {
        stage.name: {name: f"{name}-of-{stage.name}" for name in stage.gives} for stage in STAGES
    }
    values = {name: f"{name}-of-{stage.name}" for stage in reversed(STAGES) for name in stage.gives}
    for stage in STAGES:
        task = pipeline_dag.get_task(stage.name).prepare_for_execution()
        task.render_template_fields({"ti": Results(reported), "run_id": "manual__1", "dag_run": BY_ADMIN})
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
            "ACTOR": "Airflow user admin",
        }


def test_every_pod_has_commit_and_digest(pipeline_dag: DAG) -> None:
    for task in pipeline_dag.tasks:
        pod = task.prepare_for_execution().build_pod_request_obj(dry_run=True)
        expected = {"house-platform/commit": COMMIT, "house-platform/image-digest": DIGEST}
        assert expected.items() <= pod.metadata.annotations.items(), task.task_id


def test_only_the_first_stage_has_access_to_the_data_api(pipeline_dag: DAG) -> None:
    reaching = [task.task_id for task in pipeline_dag.tasks if "access/data-api" in task.labels]
    assert reaching == [STAGES[0].name]


def test_dag_without_a_schedule_starts_by_hand(pipeline_dag: DAG) -> None:
    assert type(pipeline_dag.timetable).__name__ == "NullTimetable"


def test_dag_processor_accepts_the_dags(tmp_path: Path) -> None:
    """Airflow's DAG processor, in its own process and with its own database, stores the DAGs without an error."""
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
        schedules = dict(database.execute("select dag_id, timetable_summary from dag").fetchall())
        assert schedules == {"house_price_pipeline": schedule, "house_price_rollback": "None"}
        stored = dict(database.execute("select dag_id, data from serialized_dag").fetchall())
    tasks = [task["__var"]["task_id"] for task in json.loads(stored["house_price_pipeline"])["dag"]["tasks"]]
    assert tasks == [stage.name for stage in STAGES]


def test_run_of_the_schedule_has_no_user(dags: dict[str, DAG]) -> None:
    [task] = dags["house_price_rollback"].tasks
    [template] = [item.value for item in task.env_vars if item.name == "ACTOR"]
    nobody = {"dag_run": SimpleNamespace(triggering_user_name=None)}
    assert task.render_template(template, nobody) == "Airflow, without a user"


def test_rollback_uses_version_and_reason_of_the_form(dags: dict[str, DAG]) -> None:
    dag = dags["house_price_rollback"]
    [task] = dag.tasks
    ready = task.prepare_for_execution()
    ready.render_template_fields(
        {"params": {"to": "3", "reason": "it's --absurd"}, "run_id": "manual__1", "dag_run": BY_ADMIN}
    )
    assert ready.arguments == ["rollback", "--to=3", "--reason=it's --absurd"]
    with pytest.raises(ParamValidationError):
        dag.params.validate()


def test_missing_setting_gives_one_error() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PIPELINE_IMAGE"}
    command = [sys.executable, "house_price_pipeline.py"]
    done = subprocess.run(command, cwd=DAGS, env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(
        "PIPELINE_IMAGE not set in the Airflow containers: "
        "charts/airflow renders them from the values under airflow.pipeline"
    ), done.stderr
