"""Drains of a data source that tests disturb, and the proof that nothing is lost."""

from __future__ import annotations

import httpx

from ci.common.console import say, wait_for
from ci.deploy import platform, runs, workloads
from ci.deploy.runs import Airflow
from tests.kit import local_datasource
from tests.kit.platform_data import ledger, stored_checksum
from tests.kit.world import WHO

EVERY_BATCH_IS_TRAINED_ON = {"minBatchRows": 100, "minBatchStates": 1, "minStateShare": 0}


def install_empty(source: str, **config: int) -> None:
    """Install an empty platform that fetches from `source`, with these settings of the pipeline."""
    settings = {**EVERY_BATCH_IS_TRAINED_ON, **config}
    platform.remove()
    values = [f"airflow.pipeline.config.{name}={value}" for name, value in settings.items()]
    platform.install("kind", [*local_datasource.values(), *values])
    workloads.wait_ready()
    restart(source)


def restart(source: str) -> None:
    """Let the data source begin again with its first batch."""
    httpx.get(f"{source}/restart_data_generation", params=WHO, timeout=20).raise_for_status()


def await_stage(client: Airflow, run_id: str, stage: str) -> bool:
    """Wait until a stage runs. False if the run ended without it."""

    def reached() -> bool:
        if client.state(run_id) in ("success", "failed"):
            return True
        return any(task["task_id"] == stage and task["state"] == "running" for task in client.tasks(run_id))

    wait_for(f"the stage {stage}", reached, 600, every=0.5)
    return client.state(run_id) not in ("success", "failed")


def drain_and_check(numbers: tuple[int, ...], undisturbed: str, name: str) -> None:
    """Drain without disturbance. Every batch is stored once, used, and judged, with the undisturbed checksum.

    Prints a row of a table for each run, with `name` in the first column.

    Raises:
        Failure: a run failed.
    """
    with runs.airflow() as client:
        for ended in runs.drain(client):
            say(f"| {name} | - | {ended.state} | {ended.seconds:.0f} s | {ended.tasks[0].summary} |")
    assert ledger("select batch_number from ledger.gaps") == []
    assert ledger("select batch_number from ledger.batches where state not in ('split', 'used')") == []
    wrong = "select batch_number from ledger.batches where rows <> valid + quarantined + duplicates"
    assert ledger(wrong) == []
    unjudged = (
        "select batch_number from ledger.decisions where decision = 'train' and batch_number not in"
        " (select unnest(batches) from ledger.trainings join ledger.promotions using (run_id))"
    )
    assert ledger(unjudged) == []
    stored = ledger("select batch_number, count(*) from ledger.batches group by 1 order by 1")
    assert stored == [[str(number), "1"] for number in numbers]
    assert stored_checksum() == undisturbed
