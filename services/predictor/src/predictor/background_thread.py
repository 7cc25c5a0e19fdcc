"""A thread in the background of the process, with a start and an end."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

_JOIN_SECONDS = 1


class BackgroundThread(ABC):
    """Runs `_run` in a daemon thread between `start` and `stop`."""

    def __init__(self, name: str) -> None:
        """`name` is the thread's."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. If it waits for a server, it ends with the process."""
        self._stopping.set()
        self._thread.join(_JOIN_SECONDS)

    @abstractmethod
    def _run(self) -> None:
        """Work until `_stopping` is set. Survives every error of the work."""
