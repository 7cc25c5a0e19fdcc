"""Pytest plugin: how pytest-xdist shares the tests among its workers.

All tests of a file run on one worker, in their order: they share its module fixtures, and some files tell a story.
The longest files come first, then the others that start servers, so that no long file is left for the end.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling
    from xdist.workermanage import WorkerController

# tests/doctor/test_table.py reads what the other tests of its folder said
TOGETHER = ("tests/doctor",)

# The files that take longer than a minute, the longest first. tests/ci/test_distribution.py checks that they exist.
LONGEST = (
    "tests/services/pipeline/test_stages.py",
    "tests/services/postgres/test_backup.py",
    "tests/services/pipeline/test_purity.py",
    "tests/services/pipeline/test_two_promoters.py",
    "tests/services/predictor/test_prediction_log_process.py",
    "tests/services/pipeline/test_retention.py",
)


def group(nodeid: str) -> str:
    """Tests of one group run on one worker: a file, or a folder of `TOGETHER`."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if PurePath(file).is_relative_to(folder)), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups in front, then those with service tests; within a group the order stays."""
    ranks = {group(item.nodeid): len(LONGEST) for item in items if item.get_closest_marker("services")}
    ranks |= {file: rank for rank, file in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(group(item.nodeid), len(LONGEST) + 1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """A scheduler that takes one group after another, in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

        def _reschedule(self, node: WorkerController) -> None:
            """Give a worker its next group before its last test: a worker needs to know which test is the next one.

            The base class does this before the last two tests. The next group then waits for both, although other
            workers may have nothing to do.
            """
            if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
                super()._reschedule(node)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
