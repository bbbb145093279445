"""Runs tasks in this process, and retries those that fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec

from anyio import CapacityLimiter, to_thread

from . import shutdown

logger = logging.getLogger(__name__)
P = ParamSpec("P")
Errors = type[Exception] | tuple[type[Exception], ...]
DELAYS = (0, 0.5, 1, 2, 4, 8, 16, 30)  # seconds before each retry
THREADS = CapacityLimiter(40)  # for tasks alone, so that endpoints never wait for them


class TaskFailed(Exception):
    """A task failed for good, so the later tasks of its request do not run."""


def reliable(
    retry_on: Errors = OSError, delays: Sequence[float] = DELAYS
) -> Callable[[Callable[P, Any]], Callable[P, Coroutine[Any, Any, None]]]:
    """Make a task of an `async def`, or of a plain `def`, which then runs in a thread.

    Errors in `retry_on` are retried after each of `delays`, in seconds. OSError includes time-outs.
    Any other error fails the task at once. A failed task raises TaskFailed.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, Coroutine[Any, Any, None]]:
        @wraps(function)
        async def task(*args: P.args, **kwargs: P.kwargs) -> None:
            call = partial(function, *args, **kwargs)
            if not iscoroutinefunction(function):
                call = partial(to_thread.run_sync, call, limiter=THREADS)
            try:
                await _run(call, function.__name__, retry_on, delays)
            except asyncio.CancelledError:
                logger.error("Task %s was not done when the server stopped", function.__name__)
                raise

        return task

    return decorate


async def _run(
    call: Callable[[], Awaitable[None]], name: str, retry_on: Errors, delays: Sequence[float]
) -> None:
    for attempt, delay in enumerate((*delays, None), start=1):
        try:
            await call()
            return
        except Exception as error:
            retryable = isinstance(error, retry_on)
            trace = attempt == 1 or not retryable
            logger.warning("Task %s failed: %r", name, error, exc_info=trace)
            if delay is None or not retryable or await shutdown.requested_within(delay):
                logger.error("Task %s is given up after attempt %d", name, attempt)
                raise TaskFailed(name) from error
