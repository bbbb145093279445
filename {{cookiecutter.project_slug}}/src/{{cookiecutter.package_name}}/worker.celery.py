"""The Celery application: the service hands its tasks to it, and workers run them."""

import logging
{% if cookiecutter.sink == "stdout" %}
import os
import sys
{% endif %}
from contextlib import ExitStack
from ssl import CERT_REQUIRED
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject
from celery.signals import (
    before_task_publish,
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_process_shutdown,
)
from celery.states import SUCCESS
from kombu.exceptions import OperationalError as BrokerError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from . import logs, sink, tasks, tracing, transport
from .settings import refuse_to_start, settings

__all__ = ["BrokerError", "app", "connect", "log_service_event", "send_email", "write_log"]

logger = logging.getLogger(__name__)


class ReliableTask(Task[Any, Any]):
    """A task that is tried four times; if it fails for good, it waits in the queue `failed`.

    Look at the cause, then have a worker of that queue do it, as the README says.
    """

    autoretry_for = (Exception,)
    max_retries = 3
    retry_backoff = 5  # seconds before the first retry, and twice as long before each further one
    retry_jitter = False

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """Try again later. If Redis does not take the retry, have the task handed out again."""
        try:
            return super().retry(*args, **kwargs)
        except Reject as rejection:
            raise Reject(str(rejection), requeue=True) from rejection

    def on_failure(
        self, _exc: object, task_id: str, args: Any, kwargs: Any, _einfo: object
    ) -> None:
        """Keep the task, and what a chain had in store after it, in the queue `failed`."""
        chain = self.request.chain
        try:
            self.app.send_task(
                self.name, args, kwargs, task_id=task_id, chain=chain, queue="failed"
            )
        except Exception as error:
            raise Reject(str(error), requeue=True) from error


app = Celery(__package__, broker=str(settings.redis_url), task_cls=ReliableTask)
app.conf.broker_transport = transport.Transport
app.conf.update(
    # Nothing but JSON is written, and nothing else is read.
    accept_content=["json"],
    task_serializer="json",
    # Nobody asks for results.
    task_ignore_result=True,
    # A task is struck off when it is done, not when it begins: if its process dies, it runs again.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # A process holds no other task than the one that it runs: those that wait for it would use up the
    # time that `visibility_timeout` gives them.
    worker_prefetch_multiplier=1,
    # Retries are fetched before they are due, to wait in a worker, whatever the multiplier says.
    worker_eta_task_limit=100,
    broker_connection_retry_on_startup=True,
    # By itself, kombu encrypts for no transport but its own, and trusts any certificate.
    broker_use_ssl=(
        {"ssl_cert_reqs": CERT_REQUIRED} if settings.redis_url.scheme == "rediss" else None
    ),
    broker_transport_options={
        # What a killed worker held goes to another after this many seconds. Longer tasks need more.
        "visibility_timeout": 120,
        # Look every 10 seconds, not every 100.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # All tasks are alike: `transport` looks at one list a queue.
        "priority_steps": [0],
        # A worker that is killed while it looks keeps others from it for so long, not for 300 seconds.
        "unacked_mutex_expire": 10,
        # A request waits for Redis three times as long at most, then gives up.
        "socket_connect_timeout": 0.5,
        "socket_timeout": 0.5,
    },
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
    # One connection for each thread that FastAPI runs endpoints in, so that none waits for another.
    broker_pool_limit=40,
    broker_connection_max_retries=None,
    # Keeps the schedule in memory; the default keeps it in a file.
    beat_scheduler="celery.beat:Scheduler",
)

# Asks whether Redis answers; Celery's own connections take longer to tell.
redis = Redis.from_url(
    str(settings.redis_url),
    socket_connect_timeout=1,
    socket_timeout=1,
    retry=Retry(NoBackoff(), retries=0),
)

write_log = app.task(tasks.write_log)
send_email = app.task(tasks.send_email)
log_service_event = app.task(tasks.log_service_event)

app.conf.beat_schedule = {
    "heartbeat": {
        "task": log_service_event.name,
        "schedule": settings.heartbeat_interval,
        "args": ({"service_name": settings.service_name}, "heartbeat"),
        # Heartbeats that no worker was there for are not made up for.
        "options": {"expires": settings.heartbeat_interval},
    },
}


def connect() -> None:
    """Have all ready that the next task needs; raises BrokerError if Redis does not answer."""
    try:
        redis.ping()
    except RedisError as error:
        raise BrokerError(*error.args) from error
    with app.producer_or_acquire():
        _ = app.backend, app.amqp.send_task_message  # loaded when they are first looked at


@celeryd_init.connect
def prepare_worker(**_: object) -> None:
    """Refuse to start a worker that could not write records, and give others patience with Redis.

    Nobody waits for a worker. If it gave up as fast as a request does, it could lose a retry.
    """
    logs.configure()
    try:
        sink.check()
    except OSError as error:
        refuse_to_start(f"records cannot be written: {error}")
    tracing.configure()
    patience = {"socket_connect_timeout": 5, "socket_timeout": 10}
    app.conf.broker_transport_options = app.conf.broker_transport_options | patience
    app.conf.task_publish_retry_policy = {"max_retries": 20, "interval_max": 2}
{% if cookiecutter.sink == "stdout" %}
    # Celery greets and takes its leave on standard output, which belongs to the records.
    sys.__stdout__ = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # type: ignore[misc]
{% endif %}


@setup_logging.connect
def log_to_standard_error(**_: object) -> None:
    """Have Celery log what happens to each task, not only warnings."""
    logs.configure()


@before_task_publish.connect
def pack(headers: dict[str, Any], **_: object) -> None:
    """Send along what connects the task with its request."""
    headers["carrier"] = tracing.carrier()


@task_prerun.connect
def begin(task: Any, task_id: str, **_: object) -> None:
    """Log and trace a task as a part of its request, and its start, of which Celery says nothing."""
    task.request.meanwhile = ExitStack()
    task.request.span = task.request.meanwhile.enter_context(
        tracing.continued(task.name, task.request.get("carrier") or tracing.carrier())
    )
    logger.info("Task %s[%s] started", task.name, task_id)


@task_postrun.connect
def end(task: Any, state: str, **_: object) -> None:
    """Log and trace what follows as something else."""
    if state != SUCCESS:
        tracing.fail(task.request.span)
    task.request.meanwhile.close()


@worker_process_shutdown.connect
def send_spans(**_: object) -> None:
    """Send the spans of the last tasks before their process ends."""
    tracing.flush()
