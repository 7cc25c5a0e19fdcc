"""Faults of the real service that a client must handle, planned for a number of calls."""

from __future__ import annotations

import threading
from typing import Literal

from pydantic import BaseModel, Field

Kind = Literal["delay", "timeout", "error", "truncated", "schema", "repeat"]


class Fault(BaseModel):
    """One kind of fault for the next calls of /data."""

    kind: Kind = Field(
        description="delay: the answer is late. timeout: the cursor moves, then there is no answer for `seconds`. "
        "error: 500, the cursor stays. truncated: half of the JSON. schema: other names and types. "
        "repeat: the previous batch again."
    )
    calls: int = Field(1, ge=1, le=1000, description="number of calls")
    seconds: float = Field(1.0, ge=0, le=600, description="duration of delay and timeout")


class Faults:
    """The planned faults, in the order of the requests. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Plan a fault after those that are planned already."""
        with self._lock:
            self._planned.append(fault)

    def clear(self) -> None:
        """Remove all planned faults."""
        with self._lock:
            self._planned.clear()

    def planned(self) -> list[Fault]:
        """The planned faults."""
        with self._lock:
            return list(self._planned)

    def next(self) -> Fault | None:
        """The fault of the current call, if any. Counts the call."""
        with self._lock:
            if not self._planned:
                return None
            fault = self._planned[0]
            rest = fault.model_copy(update={"calls": fault.calls - 1})
            self._planned[:1] = [rest] if rest.calls else []
            return fault
