"""Runs tasks in this process, and retries those that fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec

from anyio import CapacityLimiter, to_thread

from . import shutdown

logger = logging.getLogger(__name__)
P = ParamSpec("P")

DELAYS = (0, 0.5, 1, 2, 4, 8, 16, 30)  # seconds before each retry
THREADS = CapacityLimiter(40)  # for tasks alone, so that endpoints never wait for them


class TaskFailed(Exception):
    """A task failed for good, so the later tasks of its request do not run."""


def reliable(
    retry_on: type[Exception] | tuple[type[Exception], ...] = OSError,
    delays: Sequence[float] = DELAYS,
) -> Callable[[Callable[P, Any]], Callable[P, Awaitable[None]]]:
    """Make a task of an `async def`, or of a plain `def`, which then runs in a thread.

    Errors in `retry_on` are retried after each of `delays`, in seconds; OSError includes those of
    networks and time-outs. Any other error fails the task at once. A failed task raises TaskFailed.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, Awaitable[None]]:
        name = function.__name__
        in_thread = not iscoroutinefunction(function)

        @wraps(function)
        async def task(*args: P.args, **kwargs: P.kwargs) -> None:
            run = partial(function, *args, **kwargs)
            if in_thread:
                run = partial(to_thread.run_sync, run, limiter=THREADS)
            for attempt, delay in enumerate((*delays, None), start=1):
                try:
                    await run()
                    return
                except asyncio.CancelledError:
                    logger.error("Task %s is lost: the server stopped", name)
                    raise
                except Exception as error:
                    retryable = isinstance(error, retry_on)
                    trace = attempt == 1 or not retryable
                    logger.warning("Task %s failed: %r", name, error, exc_info=trace)
                    if delay is None or not retryable:
                        logger.error("Task %s failed for good, attempt %d", name, attempt)
                        raise TaskFailed(name) from error
                    if await shutdown.requested_within(delay):
                        logger.error("Task %s is given up: the server stops", name)
                        raise TaskFailed(name) from error

        return task

    return decorate
