"""Start a run of the DAG house_price_pipeline, follow its tasks, and print the result.

python -m ci.deploy.runs              one run: the next batch of the data API
python -m ci.deploy.runs --drain      runs until the data API has no more data
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict
from urllib.parse import quote

import httpx

from ci.common.console import Failure, main, say
from ci.common.kube import PLATFORM, forward, secret

DAG = "house_price_pipeline"
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}


class TaskInstance(TypedDict):
    """A task of a run, with the fields of Airflow's API that are used here."""

    task_id: str
    state: str | None
    try_number: int
    start_date: str | None  # ISO 8601; None if it did not start
    duration: float | None  # seconds


@dataclass(frozen=True)
class TaskResult:
    """Result of one task of a run. `result` is the result of its stage, {} if it has none."""

    name: str
    state: str
    seconds: float
    result: dict[str, Any]
    peak_mib: int  # peak memory of its process; 0 if it reported none

    @property
    def summary(self) -> str:
        """Summary that the stage reported."""
        return str(self.result.get("summary") or self.result.get("error") or "")

    @property
    def memory(self) -> str:
        """Peak memory of the stage's process, example: `612 MiB`; empty if it reported none."""
        return f"{self.peak_mib} MiB" if self.peak_mib else ""


@dataclass(frozen=True)
class RunResult:
    """Result of a run, with its tasks in the order of their start."""

    run_id: str
    state: str
    seconds: float
    tasks: tuple[TaskResult, ...]

    def task(self, name: str) -> TaskResult:
        """The task of that name."""
        return next(task for task in self.tasks if task.name == name)

    @property
    def end_of_data(self) -> bool:
        """Whether the first task got no new batch and skipped the others."""
        return self.state == "success" and self.tasks[0].state == "skipped"


class Airflow:
    """Client for the calls of Airflow's public API that programs and tests need."""

    def __init__(self, url: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, transport=httpx.HTTPTransport(retries=3))
        answer = self._http.post("/auth/token", json={"username": "admin", "password": password})
        if answer.is_error:
            raise Failure(
                f"Airflow refused the login ({answer.status_code}): "
                "the Secret airflow-login may have changed since Airflow started"
            )
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _call(self, method: str, path: str, body: object | None = None) -> Any:
        for attempt in range(5):
            try:
                answer = self._http.request(method, f"/api/v2/{path}", json=body)
            except httpx.TransportError:
                if method != "GET" or attempt == 4:
                    raise
                time.sleep(2)
                continue
            if answer.is_error:
                raise Failure(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:300]}")
            return answer.json()
        return None

    def wait_for_dag(self, dag: str = DAG, seconds: float = 120) -> None:
        """Wait until Airflow has the DAG without an import error, and unpause it."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self._http.get(f"/api/v2/dags/{dag}")
            if answer.status_code == 200:
                if answer.json()["is_paused"]:
                    self._call("PATCH", f"dags/{dag}", {"is_paused": False})
                return
            if time.monotonic() > deadline:
                errors = self._call("GET", "importErrors")["import_errors"]
                why = errors[0]["stack_trace"][-600:] if errors else "it reports no import error"
                raise Failure(f"Airflow does not know the DAG {dag} after {seconds:.0f} s: {why}")
            time.sleep(1)

    def trigger(self, dag: str = DAG) -> str:
        """Start a run; returns its id."""
        return str(self._call("POST", f"dags/{dag}/dagRuns", {"logical_date": None})["dag_run_id"])

    def tasks(self, run_id: str, dag: str = DAG) -> list[TaskInstance]:
        """Task instances of a run, ordered by their start."""
        instances: list[TaskInstance] = self._call("GET", f"dags/{dag}/dagRuns/{quote(run_id)}/taskInstances")[
            "task_instances"
        ]
        return sorted(instances, key=lambda task: task["start_date"] or "9")

    def state(self, run_id: str, dag: str = DAG) -> str:
        """State of a run: queued, running, success or failed."""
        return str(self._call("GET", f"dags/{dag}/dagRuns/{quote(run_id)}")["state"])

    def active(self, dag: str = DAG) -> list[str]:
        """Ids of the runs that have not ended."""
        active = self._call("GET", f"dags/{dag}/dagRuns?state=running&state=queued")["dag_runs"]
        return [str(run["dag_run_id"]) for run in active]

    def result(self, run_id: str, task: str, dag: str = DAG) -> dict[str, Any]:
        """Result that a stage reported; {} if none."""
        path = f"dags/{dag}/dagRuns/{quote(run_id)}/taskInstances/{task}/xcomEntries/result?deserialize=false"
        answer = self._http.get(f"/api/v2/{path}")
        if answer.is_error:
            return {}
        value = answer.json()["value"]
        body: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return body

    def log(self, run_id: str, task: str, attempt: int, dag: str = DAG) -> str:
        """The text of one attempt's log."""
        path = f"dags/{dag}/dagRuns/{quote(run_id)}/taskInstances/{task}/logs/{attempt}?full_content=true"
        return "\n".join(str(line.get("event", line)) for line in self._call("GET", path)["content"])

    def follow(self, run_id: str, seconds: float = 1800) -> RunResult:
        """Print each task as it ends, until the run ends.

        Raises:
            Failure: the run has not ended after `seconds`.
        """
        began, printed = time.monotonic(), set[str]()
        while True:
            state = self.state(run_id)
            results = [self._task_result(run_id, task) for task in self.tasks(run_id) if task["state"] in ENDED]
            for task in results:
                if task.name not in printed:
                    printed.add(task.name)
                    say(f"  {task.name:<9} {task.state:<8} {task.seconds:6.1f} s {task.memory:>9}  {task.summary}")
            if state in ("success", "failed"):
                return RunResult(run_id, state, time.monotonic() - began, tuple(results))
            if time.monotonic() - began > seconds:
                raise Failure(f"run {run_id} is still {state} after {seconds:.0f} s; see Airflow's page")
            time.sleep(1)

    def _task_result(self, run_id: str, task: TaskInstance) -> TaskResult:
        name = task["task_id"]
        result = self.result(run_id, name) if task["start_date"] else {}
        peak = result.pop("peak_mib", 0)
        return TaskResult(name, task["state"] or "", float(task["duration"] or 0), result, peak)


@contextmanager
def airflow(namespace: str = PLATFORM) -> Iterator[Airflow]:
    """A client of the platform's Airflow, through a tunnel."""
    password = json.loads(secret(namespace, "airflow-login")["passwords.json"])["admin"]
    with forward(namespace, "service/airflow-api", 8080) as url:
        yield Airflow(url, password)


def run_once(client: Airflow) -> RunResult:
    """Start a run and follow it to its end.

    Raises:
        Failure: the run failed. The message has the summary of the failed stage.
    """
    client.wait_for_dag()
    run_id = client.trigger()
    say(f"started {run_id}")
    ended = client.follow(run_id)
    if ended.state != "success":
        failed = [task for task in ended.tasks if task.state == "failed"]
        why = "; ".join(f"{task.name}: {task.summary or 'see its log'}" for task in failed)
        raise Failure(f"the pipeline run {run_id} failed: {why}")
    return ended


def drain(client: Airflow) -> list[RunResult]:
    """Start runs until the data API has no more data. The last run got no batch.

    Raises:
        Failure: a run failed.
    """
    ended = [run_once(client)]
    while not ended[-1].end_of_data:
        ended.append(run_once(client))
    return ended


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.deploy.runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--namespace", default=PLATFORM, help="namespace of the platform (default: %(default)s)")
    parser.add_argument("--drain", action="store_true", help="run until the data API has no more data")
    options = parser.parse_args()
    with airflow(options.namespace) as client:
        ended = drain(client)[-1] if options.drain else run_once(client)
    say(
        "the data API has no more data"
        if ended.end_of_data
        else f"run ended in {ended.seconds:.0f} s: {ended.task('report').summary}"
    )


if __name__ == "__main__":
    main(_main)
