"""How a stage ends other than with its work done."""

from __future__ import annotations

from typing import Any


class SkipRun(Exception):
    """There is nothing to do, and that is fine; the text says why, `facts` what is known."""

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.facts = facts
