"""How pytest-xdist shares the tests among its workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from ci.common.paths import CHECKOUT
from tests.kit.distribution import LONGEST, TOGETHER, pytest_xdist_make_scheduler


class Worker:
    """A worker of pytest-xdist that records the numbers of the tests it gets."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self) -> None:
        self.tests: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.tests += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def scheduler(workers: list[Worker], tests: list[str]) -> Any:
    """The scheduler of the plugin after all workers have collected the tests."""
    config: Any = SimpleNamespace(
        option=SimpleNamespace(loadscopereorder=True), getvalue=lambda _: [f"{len(workers)}*popen"]
    )
    made: Any = pytest_xdist_make_scheduler(config, Producer("test", enabled=False))
    for worker in workers:
        made.add_node(worker)
        made.add_node_collection(worker, tests)
    made.schedule()
    return made


@pytest.mark.parametrize("path", [*LONGEST, *TOGETHER])
def test_path_exists(path: str) -> None:
    """Otherwise a renamed file would lose its place without an error."""
    assert (CHECKOUT / path).exists()


@pytest.mark.parametrize("count", [2, 3])
def test_worker_gets_the_next_file_before_its_last_test(count: int) -> None:
    """Earlier, the next file would wait behind tests of this worker, although other workers may have nothing to do."""
    first = [f"tests/test_a.py::test_{number}" for number in range(count)]
    others = [f"tests/test_{file}.py::test_{number}" for file in "bc" for number in range(4)]
    worker = Worker()
    shared = scheduler([worker, Worker()], first + others)
    for number in range(count - 1):
        assert worker.tests == list(range(count))
        shared.mark_test_complete(worker, number)
    assert worker.tests == [*range(count), *range(count + 4, count + 8)]


def test_worker_with_a_single_test_gets_the_next_file_at_once() -> None:
    """A worker runs a test only after it knows the next one."""
    worker = Worker()
    scheduler([worker, Worker()], ["tests/test_a.py::test", "tests/test_b.py::test", "tests/test_c.py::test"])
    assert worker.tests == [0, 2]
