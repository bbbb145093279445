"""The Celery worker: `celery -A {{ cookiecutter.package_name }}.worker worker` runs the tasks."""

import logging
{% if cookiecutter.sink == "stdout" %}
import os
{% endif %}
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from celery.exceptions import TimeLimitExceeded
from celery.signals import (
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_process_shutdown,
)
from celery.states import SUCCESS
from celery.worker import consumer, request
from pydantic import TypeAdapter
from redis.exceptions import RedisError

from . import logs, sink, tasks, tracing
from .broker import PREFIX, app, redis
from .settings import abort

__all__ = ["Consumer", "Request", "app", "requeue_failed", "tasks"]

logger = logging.getLogger(__name__)

BODY = TypeAdapter(tuple[list[Any], dict[str, Any], dict[str, Any]])


class Consumer(consumer.Consumer):
    """Rejects messages that cannot run, which Celery would discard."""

    connection_errors: Any  # missing in the type stubs of Celery

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return the function that starts the task of a message."""
        start = super().create_task_handler(*args, **kwargs)

        def start_or_reject(message: Any) -> None:
            try:
                BODY.validate_python(message.payload)
                start(message)
            except RedisError:
                raise
            except Exception as error:  # anyone who can write to Redis may have written it
                self.on_decode_error(message, error)

        return start_or_reject

    def on_unknown_task(self, _body: object, message: Any, _exc: object) -> None:
        """Reject a task that this worker does not know, perhaps because it is too old."""
        self._reject(message, "unknown task")

    def on_unknown_message(self, _body: object, message: Any) -> None:
        """Reject a message that names no task."""
        self._reject(message, "unknown message")

    def on_invalid_task(self, _body: object, message: Any, exc: Exception) -> None:
        """Reject a task with invalid options."""
        self._reject(message, type(exc).__name__)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Reject a message whose content cannot be read."""
        self._reject(message, type(exc).__name__)

    def _reject(self, message: Any, reason: str) -> None:
        task, task_id = message.headers.get("task"), message.headers.get("id")
        logger.error("Task %s[%s] is in the queue 'failed' now: %s", task, task_id, reason)
        message.reject_log_error(logger, self.connection_errors)


class Request(request.Request):
    """Rejects a task that exceeds its `time_limit`, which Celery would forget."""

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> None:
        """Handle the failure of a task."""
        if issubclass(exc_info.type, TimeLimitExceeded):
            self.reject(requeue=False)
        super().on_failure(exc_info, *args, **options)


def requeue_failed() -> None:
    """Run the tasks again that failed for good."""
    failed, queue = f"{PREFIX}failed", f"{PREFIX}{app.conf.task_default_queue}"
    try:
        count = redis.llen(failed)
        for _ in range(count):
            redis.lmove(failed, queue, "RIGHT", "LEFT")
    except RedisError as error:
        abort(f"REDIS_URL: {error}")
    sys.stdout.write(f"Failed tasks queued again: {count}\n")


@celeryd_init.connect
def prepare_worker(**_: object) -> None:
    """Check the sink, enable traces, and set longer Redis time-outs than requests have."""
    logs.configure()
    try:
        sink.check()
    except OSError as error:
        abort(str(error))
    tracing.configure()
    # A worker can wait longer for Redis than a request, instead of running a task again.
    patience = {"socket_connect_timeout": 5, "socket_timeout": 10}
    app.conf.broker_transport_options = app.conf.broker_transport_options | patience
    app.conf.task_publish_retry_policy = {"max_retries": 20, "interval_max": 2}
{% if cookiecutter.sink == "stdout" %}
    # Celery prints its banner to standard output, which is for the records.
    sys.__stdout__ = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # type: ignore[misc]
{% endif %}


@setup_logging.connect
def configure_logs(**_: object) -> None:
    """Replace Celery's own log configuration."""
    logs.configure()


@task_prerun.connect
def open_span(task: Any, task_id: str, **_: object) -> None:
    """Connect what follows with the request of the task, and log the start."""
    # A task that a test runs eagerly has no headers of its own.
    headers = task.request.get("trace_headers") or tracing.inject()
    task.request.spans = ExitStack()
    task.request.span = task.request.spans.enter_context(tracing.task_span(task.name, headers))
    logger.info("Task %s[%s] started", task.name, task_id)


@task_postrun.connect
def close_span(task: Any, state: str, **_: object) -> None:
    """End the task's span."""
    if state != SUCCESS:
        tracing.mark_failed(task.request.span)
    task.request.spans.close()


@worker_process_shutdown.connect
def flush_spans(**_: object) -> None:
    """Export the last spans before their process ends."""
    tracing.flush()
