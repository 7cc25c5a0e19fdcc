"""The result of a stage or a command, its peak memory, and the exception that ends a run early without an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypedDict


class Outcome(TypedDict):
    """Result of a stage or a command. Each adds its own fields; those that another stage needs are references."""

    summary: str  # one sentence


class SkipRun(Exception):
    """There is nothing to do, which is not an error. The message gives the reason; `facts` are added to the result."""

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.facts = facts


def peak_mib() -> int:
    """Peak memory of this process. `ru_maxrss` is not used, because a process inherits it from its parent."""
    match = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) // 1024 if match else 0
