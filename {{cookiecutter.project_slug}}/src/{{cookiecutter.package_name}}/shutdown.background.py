"""Tells tasks that the process is asked to stop.

The lifespan cannot: the server ends it only after the tasks.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

requested = asyncio.Event()


async def requested_within(seconds: float) -> bool:
    """Wait until the process is asked to stop, at most for `seconds`; returns whether it was."""
    with suppress(TimeoutError):
        await asyncio.wait_for(requested.wait(), seconds)
    return requested.is_set()


def watch() -> None:
    """Notice SIGINT and SIGTERM, and pass them on to the server's own handlers."""
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread can handle signals
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(server_handler := signal.getsignal(number)):
            signal.signal(number, partial(_handle, loop, server_handler))


def _handle(
    loop: asyncio.AbstractEventLoop,
    server_handler: Callable[[int, FrameType | None], Any],
    number: int,
    frame: FrameType | None,
) -> None:
    loop.call_soon_threadsafe(requested.set)
    server_handler(number, frame)
