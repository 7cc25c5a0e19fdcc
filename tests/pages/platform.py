"""The pages with a real predictor, a real ledger with the history of three batches, and answers of a Prometheus."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.local.processes import LocalPlatform
from core.ledger import Ledger
from tests.kit import local_predictor, prometheus_answers
from tests.kit.history import EVIDENCE, SCORES
from tests.kit.small_models import train


@contextmanager
def serving(local: LocalPlatform, folder: Path) -> Iterator[str]:
    """Run predictor and pages; yields the URL of the pages. Files are in `folder`."""
    dsn = local.database("pages")
    _write_history(dsn)
    model = train(folder / "model" / "bundle", 10)
    with local_predictor.serving(local, model, folder, dsn) as predictor, prometheus_answers.serving() as prometheus:
        yield local.start_ui(predictor, prometheus_url=prometheus)
        local.stop("ui")


def kill_workers(gunicorn: int) -> None:
    """Kill all worker processes of a gunicorn, which starts others."""
    for child in Path(f"/proc/{gunicorn}/task/{gunicorn}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def _write_history(dsn: str) -> None:
    """A first model, a skipped batch, a rejected model and a missing batch."""
    ledger = Ledger(dsn)
    ledger.ensure_schema()
    for number, rows in ((0, 73_784), (3, 4_055), (4, 320_696)):
        batch = ledger.receive(number, f"sha-{number}", rows, f"raw/{number}")
        ledger.set_stored(batch)
        ledger.set_validated(batch, rows - 2, 0, {"price below 1,000": 2})
        ledger.set_split(batch)
        trained = number != 3
        reason = "PSI 3.10 of `price` is above 0.25" if trained else "4,055 rows are fewer than 10,000"
        ledger.decide(batch, "train" if trained else "skip", reason, EVIDENCE if number == 4 else {})
    for version, number in (("1", 0), ("2", 4)):
        ledger.add_training(f"run-{version}", number, [number], 51_000, "test", {"test": SCORES}, "a" * 64)
    ledger.add_promotion("run-1", "1", True, "it is the first model", None, {"challenger": SCORES, "champion": None})
    scores = {"challenger": SCORES, "champion": SCORES | {"mae": 32_000.0}}
    ledger.add_promotion("run-2", "2", False, "MAE $33,005 against $32,000 (+3.1%)", "1", scores)
    ledger.add_move("1", None, "promotion", "it is the first model", "a" * 64)
