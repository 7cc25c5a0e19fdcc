"""A data source, a ledger and a store, with pipeline runs that can be killed before any step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from core.errors import DataError, HouseError, LedgerAwayError, StorageError
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
# One client, because each loads the certificate authorities for 40 ms. A kept connection could be closed by the server.
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))


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


@dataclass
class Outage:
    """An outage of a component: after `after` more calls, `calls` calls fail with `error`."""

    error: type[HouseError]
    after: int = 0
    calls: int = 0

    def step(self) -> None:
        if self.calls and self.after:
            self.after -= 1
        elif self.calls:
            self.calls -= 1
            raise self.error("away")


class Mortal:
    """A client of a component. Before each call, the process can be killed and the component can be away."""

    def __init__(self, client: Any, life: Life, outage: Outage) -> None:
        self._client, self._life, self._outage = client, life, outage

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._life.step()
            self._outage.step()
            return method(*arguments, **named)

        return call


@dataclass
class World:
    """A data source, a ledger and a store, and runs of the stages up to the decision."""

    source: str
    ledger: Ledger
    folder: Path
    dsn: str
    life: Life = field(default_factory=Life)
    outages: dict[str, Outage] = field(
        default_factory=lambda: {"store": Outage(StorageError), "ledger": Outage(LedgerAwayError)}
    )
    messages: list[str] = field(default_factory=list)

    def context(self) -> Context:
        planned = HTTP.get(f"{self.source}/admin/faults").raise_for_status().json()
        timeout = TIMEOUT if any(fault["kind"] == "timeout" for fault in planned) else PATIENCE
        settings = PipelineSettings(
            data_api_url=self.source, data_api_timeout_seconds=timeout, data_uri=self.folder.as_uri(),
            ledger_dsn=self.dsn, mlflow_tracking_uri="http://127.0.0.1:9", component_wait_seconds=0,
        )  # fmt: skip
        context = Context(settings)
        if not self.ledger.find_owner():  # the owner does not change afterwards
            self.ledger.open_for(settings.platform_name)  # as `Context.ledger` does
        context.__dict__["ledger"] = Mortal(self.ledger, self.life, self.outages["ledger"])
        context.__dict__["store"] = Mortal(FolderStore(self.folder), self.life, self.outages["store"])
        context.__dict__["champion"] = None  # no registry is asked
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
        except (DataError, StorageError, LedgerAwayError, Killed) as failed:
            self.messages.append(repr(failed))
        return False

    def drain(self) -> None:
        """Run without faults until the end of the data."""
        for outage in self.outages.values():
            outage.calls = 0
        HTTP.delete(f"{self.source}/admin/faults").raise_for_status()
        for _ in range(MAX_RUNS):
            if self.run():
                return
        pytest.fail(f"no end after {MAX_RUNS} runs: {self.messages}")

    def restart(self) -> None:
        HTTP.get(f"{self.source}/restart_data_generation", params=WHO).raise_for_status()

    def fault(self, **fault: Any) -> None:
        HTTP.post(f"{self.source}/admin/faults", json=fault).raise_for_status()

    def outcomes(self) -> list[str]:
        """Outcomes of all calls of the data API, in their order."""
        with psycopg.connect(self.dsn) as connection:
            return [outcome for [outcome] in connection.execute("select outcome from ledger.calls order by id")]

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
            clean = sum(rows.read_batch(FolderStore(self.folder), batch.batch_number, one).height
                        for one in rows.SPLITS)  # fmt: skip
            assert clean == batch.valid, "a row was lost or counted twice"
