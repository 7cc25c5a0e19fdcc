"""Runs all six batches through the platform on a cluster: rows, decisions, verdicts, and cost of every stage.

`python -m tests.bench.batches` removes the platform with its data, installs it again, and prints two tables. Batches 0
to 4 are recorded ones if HOUSE_RECORDING_DIR is set; batch 5 is synthetic. The pods of the cluster must reach this
machine, as those of the kind cluster do. It takes about ten minutes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from ci.common.console import main, phase, say
from ci.deploy import platform, runs, workloads
from ci.deploy.runs import RunResult
from pipeline import STAGES
from tests.kit import local_datasource
from tests.kit.platform_data import ledger

ROWS = """
select b.batch_number, b.rows, b.valid, b.quarantined, b.duplicates, d.decision || ': ' || d.reason, p.version,
       p.promoted, p.metrics -> 'challenger' ->> 'mae', p.metrics -> 'champion' ->> 'mae',
       p.metrics -> 'challenger' ->> 'rmse', p.metrics -> 'champion' ->> 'rmse', p.reason
from ledger.batches b
left join ledger.decisions d using (batch_number, sha256)
left join ledger.trainings t using (batch_number)
left join ledger.promotions p using (run_id)
order by b.received_at
"""


def table(head: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def batches() -> str:
    """The table of all batches, from the ledger."""
    head = ["batch", "received", "clean", "quarantined", "duplicates", "decision", "version", "promoted"]
    head += ["MAE challenger", "MAE champion", "RMSE challenger", "RMSE champion", "verdict"]
    return table(head, [[_short(cell) for cell in row] for row in ledger(" ".join(ROWS.split()))])


def stages(ended: list[RunResult]) -> str:
    """The table of seconds per task, including the start of its pod, and peak memory of its process."""
    head = ["run", *(stage.name for stage in STAGES)]
    lines = []
    for number, one in enumerate(ended):
        tasks = {task.name: task for task in one.tasks if task.state == "success"}
        cells = [f"{tasks[s.name].seconds:.0f} s, {tasks[s.name].memory}" if s.name in tasks else "" for s in STAGES]
        lines.append([str(number), *cells])
    return table(head, lines)


def _short(cell: str) -> str:
    try:
        return f"{float(cell):,.0f}" if "." in cell else cell
    except ValueError:
        return cell


def bench() -> None:
    """Install the platform, run all batches, and print the tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        platform.remove()
        with phase("install the platform"):
            platform.install("kind", local_datasource.values())
            workloads.wait_ready()
        ended: list[RunResult] = []
        with runs.airflow() as client:
            with local_datasource.serving(folder, "0,1,2,3,4"):
                for number in range(5):
                    say(f"batch {number}")
                    ended.append(runs.run_once(client))
            with local_datasource.serving(folder, "5", HOUSE_RECORDING_DIR=""):
                say("batch 5")
                ended.append(runs.run_once(client))
    say(f"batches 0 to 4 {'recorded' if os.environ.get('HOUSE_RECORDING_DIR') else 'synthetic'}, batch 5 synthetic")
    print(batches(), stages(ended), sep="\n\n", flush=True)


def _main() -> None:
    argparse.ArgumentParser(
        prog="python -m tests.bench.batches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    bench()


if __name__ == "__main__":
    main(_main)
