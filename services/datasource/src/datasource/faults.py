"""Faults that a client of the real service has to live with, switched on for a number of calls."""

from __future__ import annotations

import threading
from typing import Literal

from pydantic import BaseModel, Field

Kind = Literal["delay", "timeout", "error", "truncated", "schema", "repeat"]


class Fault(BaseModel):
    """One kind of fault for the next calls of /data."""

    kind: Kind = Field(
        description="delay: answer late. timeout: the cursor moves, then nothing is answered for `seconds`. "
        "error: 500, the cursor stays. truncated: half of the JSON. schema: other names and types. "
        "repeat: the batch before is handed out again."
    )
    calls: int = Field(1, ge=1, le=1000, description="how many calls")
    seconds: float = Field(1.0, ge=0, le=600, description="how long, for delay and timeout")


class Faults:
    """The faults that are still to come, in the order in which they were asked for; safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let the calls that follow those already planned fail in this way."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget all planned faults."""
        with self._lock:
            self._waiting.clear()

    def planned(self) -> list[Fault]:
        """The faults that are still to come."""
        with self._lock:
            return list(self._waiting)

    def next(self) -> Fault | None:
        """The fault of this call, which uses it up."""
        with self._lock:
            if not self._waiting:
                return None
            fault = self._waiting[0]
            rest = fault.model_copy(update={"calls": fault.calls - 1})
            self._waiting[:1] = [rest] if rest.calls else []
            return fault
