"""Pytest plugin: how pytest-xdist shares the tests among its workers.

All tests of a file run on one worker, in their order: they share its module fixtures, and some files tell a story.
Files that start servers come first, so that no long file is left for the end.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# tests/doctor/test_table.py reads what the other tests of its folder said
TOGETHER = ("tests/doctor",)


def group(nodeid: str) -> str:
    """Tests of one group run on one worker: a file, or a folder of `TOGETHER`."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if PurePath(file).is_relative_to(folder)), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put groups with service tests in front; within a group the order stays."""
    slow = {group(item.nodeid) for item in items if item.get_closest_marker("services")}
    items.sort(key=lambda item: group(item.nodeid) not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """A scheduler that takes one group after another, in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
