"""A data source, a ledger and a store, with pipeline runs that can be killed before any step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.errors import DataError
from core.ledger import Batch, Ledger
from core.stores import layout
from core.stores.objects import FolderStore
from pipeline import rows
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.settings import PipelineSettings
from pipeline.stages import fetch, split, validate

WHO = {"group_number": "1", "day": "Tuesday"}
TIMEOUT = 0.3  # seconds until fetch gives up, in runs with a planned timeout
PATIENCE = 60.0  # in other runs, so that a busy machine causes no timeout
MAX_RUNS = 30


def checksum(stored: Iterable[tuple[int, str]], read: Callable[[str], bytes]) -> str:
    """Checksum of the raw, quarantined and clean rows of batches, given as number and raw key."""
    digest = hashlib.sha256()
    for number, raw_key in stored:
        keys = [raw_key, layout.quarantine_key(number), *(layout.clean_key(number, one) for one in rows.SPLITS)]
        for key in keys:
            digest.update(f"{key} {hashlib.sha256(read(key)).hexdigest()}\n".encode())
    return digest.hexdigest()


class Killed(BaseException):
    """Ends a run like SIGKILL: no code handles it."""


@dataclass
class Life:
    """Number of steps until a process is killed; None: it is not killed."""

    left: int | None = None

    def step(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1


class Mortal:
    """A client of an external system. The process can be killed before each call."""

    def __init__(self, system: Any, life: Life) -> None:
        self._system, self._life = system, life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._system, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._life.step()
            return method(*arguments, **named)

        return call


class NoModels:
    """A registry without a champion."""

    def version_by_alias(self, *_: str) -> None:
        return None


@dataclass
class World:
    """A data source, a ledger and a store, and runs of the stages up to the decision."""

    source: str
    ledger: Ledger
    folder: Path
    dsn: str
    life: Life = field(default_factory=Life)
    messages: list[str] = field(default_factory=list)

    def context(self) -> Context:
        planned = httpx.get(f"{self.source}/admin/faults").raise_for_status().json()
        timeout = TIMEOUT if any(fault["kind"] == "timeout" for fault in planned) else PATIENCE
        settings = PipelineSettings(
            data_api_url=self.source, data_api_timeout_seconds=timeout, data_uri=self.folder.as_uri(),
            ledger_dsn=self.dsn, mlflow_tracking_uri="http://127.0.0.1:9",
        )  # fmt: skip
        context = Context(settings)
        context.__dict__["ledger"] = Mortal(self.ledger, self.life)
        context.__dict__["store"] = Mortal(FolderStore(self.folder), self.life)
        context.__dict__["registry"] = NoModels()
        return context

    def run(self, killed_after: int | None = None) -> bool:
        """Do one run. Returns whether it reached the end of the data."""
        self.life.left = killed_after
        context = self.context()
        try:
            number = fetch.run(context)["batch"]
            validate.run(context, number)
            split.run(context, number)
            context.ledger.decide(context.ledger.batch(number), "skip", "decided", {})
        except SkipRun as skipped:
            self.messages.append(str(skipped))
            return "no more data" in str(skipped)
        except (DataError, Killed) as failed:
            self.messages.append(repr(failed))
        return False

    def drain(self) -> None:
        """Run without faults until the end of the data."""
        httpx.delete(f"{self.source}/admin/faults").raise_for_status()
        for _ in range(MAX_RUNS):
            if self.run():
                return
        pytest.fail(f"no end after {MAX_RUNS} runs: {self.messages}")

    def restart(self) -> None:
        httpx.get(f"{self.source}/restart_data_generation", params=WHO).raise_for_status()

    def fault(self, **fault: Any) -> None:
        httpx.post(f"{self.source}/admin/faults", json=fault).raise_for_status()

    def usable(self) -> list[Batch]:
        history = self.ledger.history()
        numbers = sorted({row["batch_number"] for row in history if row["state"] in ("split", "used")})
        return [self.ledger.batch(number) for number in numbers]

    def checksum(self) -> str:
        """Checksum of all stored rows of the usable batches."""
        stored = ((batch.batch_number, batch.raw_key) for batch in self.usable())
        return checksum(stored, lambda key: (self.folder / key).read_bytes())

    def check(self) -> None:
        """Assert the invariants that hold at any time."""
        history = self.ledger.history()
        for row in history:
            if row["valid"] is not None:
                assert row["rows"] == row["valid"] + row["quarantined"] + row["duplicates"]
        for number in {row["batch_number"] for row in history}:
            steps = Counter((step["sha256"], step["state"]) for step in self.ledger.transitions(number))
            assert set(steps.values()) <= {1}, "a state was entered twice"
        for batch in self.usable():
            clean = sum(rows.read_split(FolderStore(self.folder), [batch.batch_number], one).height
                        for one in rows.SPLITS)  # fmt: skip
            assert clean == batch.valid, "a row was lost or counted twice"
