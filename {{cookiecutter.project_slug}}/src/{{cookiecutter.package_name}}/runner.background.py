"""Runs tasks in this process, and runs those again that fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any

import stamina
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from . import tasks

logger = logging.getLogger(__name__)

# What fails is logged here, with the name of the task.
stamina.instrumentation.set_on_retry_hooks([])


class TaskFailed(Exception):
    """A task has failed for good, and that is logged."""


def reliable(function: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """Make of a task one that, if it fails, is tried again for a minute, at growing intervals.

    `function` may be `async def` or a plain `def`, which runs in a thread. The task raises TaskFailed
    in the end: those of the same request that come after are not run then.
    """
    name = function.__name__
    run: Callable[..., Awaitable[Any]] = function
    if not iscoroutinefunction(function):
        run = partial(run_in_threadpool, function)

    @wraps(function)
    async def task(*args: Any, **kwargs: Any) -> None:
        try:
            try:
                await run(*args, **kwargs)
            except Exception as error:
                logger.warning("Task %s failed and is tried again: %r", name, error)
                await _run_again(name, partial(run, *args, **kwargs))
        except asyncio.CancelledError:
            logger.error("Task %s is lost: the server stops before it is done", name)
            raise

    return task


async def _run_again(name: str, run: Callable[[], Awaitable[Any]]) -> None:
    try:
        # At once, and after 0.5, 1, 2, 4, 8, 16 and 30 seconds.
        async for attempt in stamina.retry_context(
            on=Exception, attempts=8, timeout=None, wait_initial=0.5, wait_max=30, wait_jitter=0
        ):
            with attempt:
                await run()
    except Exception as error:
        logger.exception("Task %s failed for good", name)
        raise TaskFailed(name) from error


class KeepConnections:
    """Keeps failed tasks from the server, which would close the connection of their request.

    By then, the client may have sent its next request there.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and run its tasks."""
        with suppress(TaskFailed):
            await self.app(scope, receive, send)


write_log = reliable(tasks.write_log)
send_email = reliable(tasks.send_email)
log_service_event = reliable(tasks.log_service_event)
