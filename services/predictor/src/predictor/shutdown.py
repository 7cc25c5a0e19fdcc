"""Delays the shutdown after SIGTERM until load balancers have noticed it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType

DRAIN_SECONDS = 2.0  # load balancers need this time to notice; requests that arrive meanwhile are answered


def drain_on_sigterm(on_sigterm: Callable[[], None]) -> None:
    """On SIGTERM, call `on_sigterm`, keep answering for `DRAIN_SECONDS`, and then let the server stop.

    The server then refuses new connections and finishes the requests in flight. Call this function in the event loop,
    after the server has installed its own handler.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # a test client runs the app in another thread, which cannot install signal handlers
    loop = asyncio.get_running_loop()
    stop_server = signal.getsignal(signal.SIGTERM)

    def drain(number: int, _: FrameType | None) -> None:
        on_sigterm()
        if callable(stop_server):
            loop.call_soon_threadsafe(loop.call_later, DRAIN_SECONDS, stop_server, number, None)

    signal.signal(signal.SIGTERM, drain)
