"""The Celery worker: `celery -A {{ cookiecutter.package_name }}.worker worker` runs the tasks."""

import logging
{% if cookiecutter.sink == "stdout" %}
import os
import sys
{% endif %}
from contextlib import ExitStack
from typing import Any

from celery.signals import (
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_process_shutdown,
)
from celery.states import SUCCESS

from . import logs, sink, tasks, tracing
from .broker import app
from .settings import abort

__all__ = ["app", "tasks"]

logger = logging.getLogger(__name__)


@celeryd_init.connect
def prepare_worker(**_: object) -> None:
    """Refuse to start a worker that cannot write records, and let others wait longer for Redis."""
    logs.configure()
    try:
        sink.check()
    except OSError as error:
        abort(str(error))
    tracing.configure()
    # A worker that gave up as soon as a request does could lose a retry.
    app.conf.broker_transport_options |= {"socket_connect_timeout": 5, "socket_timeout": 10}
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
