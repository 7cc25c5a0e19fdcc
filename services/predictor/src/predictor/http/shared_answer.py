"""One answer for many requests, so that a costly read happens once and not once per request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class SharedAnswer:
    """Makes an answer in a thread. Requests that arrive meanwhile, and for some seconds afterwards, get the same one.

    So there is at most one call at a time, and requests that wait for it occupy no thread. A failure is not kept: all
    requests that waited get it, and the next request tries again.
    """

    def __init__(self, make: Callable[[], bytes], seconds: float) -> None:
        """`make` runs in any thread; its result is kept for `seconds`."""
        self._make = make
        self._seconds = seconds
        self._task: asyncio.Task[bytes] | None = None
        self._fresh_until = 0.0

    async def get(self) -> bytes:
        """The answer. Raises what `make` raises."""
        if self._task is None or (self._task.done() and time.monotonic() >= self._fresh_until):
            self._task = asyncio.create_task(self._make_in_thread())
        return await asyncio.shield(self._task)  # a client that disconnects does not cancel the read of the others

    async def _make_in_thread(self) -> bytes:
        answer = await asyncio.to_thread(self._make)
        self._fresh_until = time.monotonic() + self._seconds
        return answer
