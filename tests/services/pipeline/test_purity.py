"""The stored rows depend only on the batches, not on their order, nor on faults.

The tests use a real ledger and a real data source with any sequence of faults, and kill the process between any two
steps. `pytest -s` prints the content of the ledger after each fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from ci.local.processes import LocalPlatform
from core.ledger import Ledger
from datasource import synthetic
from pipeline.ingest import data_api
from pipeline.ingest.body import BatchContent, content_hash
from tests.kit.long_form import LONG
from tests.kit.small_disk import MIB, small_disk
from tests.kit.world import HTTP, TIMEOUT, World
from tests.services.ledgers import ConnectedLedger, new_ledger

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

NUMBERS = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def source(local: LocalPlatform) -> Iterator[str]:
    named = ",".join(map(str, NUMBERS))
    local.start_datasource(
        scale="0.002", latency_scale="0", admin_enabled="true", house_recording_dir="", batches=named
    )
    yield local.datasource_url
    local.stop("datasource")


@pytest.fixture(scope="module")
def dsn(local: LocalPlatform) -> str:
    return new_ledger(local, "purity")


@pytest.fixture(scope="module")
def ledger(dsn: str) -> Iterator[Ledger]:
    with closing(ConnectedLedger(dsn, run="run")) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def new_world(source: str, dsn: str, ledger: Ledger) -> Callable[[Path], World]:
    """Creates an empty world."""

    def make(folder: Path) -> World:
        with psycopg.connect(dsn) as connection:
            connection.execute("truncate ledger.batches, ledger.calls, ledger.gaps cascade")
        world = World(source, ledger, folder, dsn)
        HTTP.delete(f"{source}/admin/faults").raise_for_status()
        world.restart()
        return world

    return make


@pytest.fixture(scope="module")
def undisturbed(new_world: Callable[[Path], World], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Checksum of all batches after a run without faults."""
    world = new_world(tmp_path_factory.mktemp("undisturbed"))
    world.drain()
    assert [batch.batch_number for batch in world.usable()] == NUMBERS
    return world.checksum()


FAULTS: dict[str, dict[str, Any]] = {
    "delay": {"kind": "delay", "seconds": 0.05},
    "time-out after the cursor moved": {"kind": "timeout", "seconds": TIMEOUT + 0.2},
    "500": {"kind": "error"},
    "truncated JSON": {"kind": "truncated"},
    "wrong schema": {"kind": "schema"},
    "repeated batch": {"kind": "repeat"},
}
event = some.one_of(
    some.tuples(some.just("fault"), some.sampled_from(sorted(FAULTS)), some.integers(1, 2)),
    some.tuples(some.just("kill"), some.integers(0, 27), some.just(1)),
    some.tuples(
        some.just("outage"),
        some.tuples(some.sampled_from(["store", "ledger"]), some.integers(0, 15)),
        some.integers(1, 30),
    ),
    some.tuples(some.just("restart"), some.just(0), some.just(1)),
    some.tuples(some.just("run"), some.just(0), some.just(1)),
)


def happen(world: World, what: str, which: Any, calls: int) -> None:
    """Cause one event, and do the run that it affects."""
    if what == "fault":
        world.fault(**FAULTS[which], calls=calls)
    elif what == "outage":
        component, after = which
        world.outages[component].after, world.outages[component].calls = after, calls
    elif what == "restart":
        world.restart()
    world.run(killed_after=which if what == "kill" else None)
    world.check()


@given(some.lists(event, max_size=10))
@settings(max_examples=200 if LONG else 10, suppress_health_check=list(HealthCheck))
def test_stored_content_does_not_depend_on_faults(
    new_world: Callable[[Path], World], undisturbed: str, events: list[tuple[str, Any, int]]
) -> None:
    with TemporaryDirectory() as folder:
        world = new_world(Path(folder))
        for one in events:
            happen(world, *one)
        world.drain()
        world.check()
        assert world.ledger.gaps() == []
        assert world.checksum() == undisturbed
        world.check()


@pytest.mark.parametrize("component", ["store", "ledger"])
@pytest.mark.parametrize("after", range(15))
def test_outage_before_any_call_that_outlasts_several_runs_loses_nothing(
    new_world: Callable[[Path], World], undisturbed: str, tmp_path: Path, component: str, after: int
) -> None:
    world = new_world(tmp_path)
    world.run()
    happen(world, "outage", (component, after), 1000)
    for _ in range(5):  # retries and further runs during the outage
        world.run()
    outcomes = world.outcomes()
    assert outcomes.count("batch") + outcomes.count("lost") <= len(NUMBERS), "no batch is asked for in vain"
    world.drain()
    assert world.ledger.gaps() == []
    assert world.checksum() == undisturbed


def test_failed_recovery_is_repeated(new_world: Callable[[Path], World], undisturbed: str, tmp_path: Path) -> None:
    """Batch 1 is lost; during the recovery, the store fails when batch 1 arrives again."""
    world = new_world(tmp_path)
    world.run()
    happen(world, "fault", "truncated JSON", 1)
    world.run()
    world.run()
    assert world.ledger.gaps() == [1]
    # after the two calls for the owner, once per run, and the probe before each answer: at the end of the data, of
    # batch 0 and of batch 1
    happen(world, "outage", ("store", 5), 1)
    assert "Batch 1 arrived and was not stored" in world.messages[-1]
    world.drain()
    assert world.outcomes().count("restart") == 2
    assert world.checksum() == undisturbed


@pytest.mark.parametrize("before", [1, 3], ids=["on a batch between", "on the last batch"])
@pytest.mark.parametrize("step", range(25))
def test_run_that_is_killed_before_any_step_loses_nothing(
    new_world: Callable[[Path], World], undisturbed: str, tmp_path: Path, step: int, before: int
) -> None:
    world = new_world(tmp_path)
    for _ in range(before):
        world.run()
    happen(world, "kill", step, 1)
    world.drain()
    assert world.ledger.gaps() == []
    assert world.checksum() == undisturbed


def test_batches_may_come_in_any_order(new_world: Callable[[Path], World], undisturbed: str, tmp_path: Path) -> None:
    """In the order 1, 3, 0, 2: batches 0 and 2 are lost at first."""
    world = new_world(tmp_path)
    for _ in range(2):
        happen(world, "fault", "truncated JSON", 1)
        happen(world, "run", 0, 1)
    world.drain()
    order = [row["batch_number"] for row in world.ledger.history()]
    assert order == [1, 3, 0, 2]
    assert world.checksum() == undisturbed


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 0, 2, 1)], ids=str)
def test_content_that_is_used_does_not_depend_on_the_order_of_contents(
    new_world: Callable[[Path], World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]
) -> None:
    whole = synthetic.generate(0, seed=7, scale=0.002)[0]
    contents = [whole.head(90), whole, whole.rename({"price": "precio"})]  # shorter, complete, unusable
    answers = [data_api.BatchAnswer(BatchContent(0, contents[at], content_hash(contents[at])), 1) for at in order]
    monkeypatch.setattr(data_api, "next_batch", lambda *_: answers.pop(0) if answers else None)
    world = new_world(tmp_path)
    for _ in range(len(order) + 1):
        world.run()
    assert not answers
    assert world.messages[-1] == "the data API has no more data"
    [used] = world.usable()
    assert (used.sha256, used.valid) == (content_hash(whole), whole.height)
    world.check()
    states = {row["sha256"]: row["state"] for row in world.ledger.history()}
    assert states[content_hash(contents[2])[:12]] == "quarantined"
    assert states[content_hash(whole)[:12]] == "split"


TABLE = {
    # after the run with the fault: outcomes of its calls, states of batch 1, gaps
    "delay": (["batch"], ["split"], []),
    "time-out after the cursor moved": (["lost"], [], [1]),
    "500": (["refused"], [], []),
    "truncated JSON": (["lost"], [], [1]),
    "wrong schema": (["batch"], ["quarantined"], [1]),
    "repeated batch": (["batch", "batch"], ["split"], []),
    "restart": (["batch", "batch"], ["split"], []),
}


@pytest.mark.parametrize("name", TABLE)
def test_ledger_after_each_fault(
    new_world: Callable[[Path], World], undisturbed: str, tmp_path: Path, dsn: str, name: str
) -> None:
    world = new_world(tmp_path)
    world.run()
    happen(world, "restart" if name == "restart" else "fault", name, 1)

    def calls() -> list[str]:
        with psycopg.connect(dsn) as connection:
            calls = connection.execute("select outcome, batch_number from ledger.calls order by id").fetchall()
        return [outcome if number is None else f"{outcome} {number}" for outcome, number in calls]

    def contents() -> str:
        contents_by_batch: dict[str, list[str]] = {}
        for number in NUMBERS:
            for step in world.ledger.transitions(number):
                contents_by_batch.setdefault(f"{number} ({step['sha256'][:4]})", []).append(str(step["state"]))
        return "; ".join(f"{name}: {' > '.join(states)}" for name, states in contents_by_batch.items())

    print(f"\n| {name} | {', '.join(calls())} | {contents()} | {world.ledger.gaps() or 'none'} |", end=" ")
    outcomes, states, gaps = TABLE[name]
    assert [call.split()[0] for call in calls()[1:]] == outcomes
    assert [row["state"] for row in world.ledger.history() if row["batch_number"] == 1] == states
    assert world.ledger.gaps() == gaps
    world.drain()
    print(f"{', '.join(calls()[len(outcomes) + 1 :])} | {contents()} | {world.ledger.gaps() or 'none'} |")
    assert world.ledger.gaps() == []
    assert world.checksum() == undisturbed


def test_full_disk_moves_no_cursor(new_world: Callable[[Path], World], undisturbed: str, tmp_path: Path) -> None:
    with small_disk(tmp_path, 16 * MIB) as disk:
        world = new_world(tmp_path / "store")
        world.run()
        disk.fill(leave=MIB // 2)
        before = world.outcomes()
        for _ in range(3):
            world.run()
            assert "No space left on device" in world.messages[-1]
        assert world.outcomes() == before, "the data API was called although its answer could not be stored"
        disk.empty()
        world.drain()
        assert world.checksum() == undisturbed
