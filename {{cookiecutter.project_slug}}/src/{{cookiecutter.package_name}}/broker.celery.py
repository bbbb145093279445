"""The Celery application: hands tasks to Redis, and defines how they are retried."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from inspect import signature
from ssl import CERT_REQUIRED
from typing import Any

from celery import Celery, Task, current_task, shared_task
from celery.exceptions import Reject
from celery.signals import before_task_publish
from kombu.exceptions import OperationalError as BrokerError
from kombu.transport import TRANSPORT_ALIASES
from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from . import tracing
from .settings import settings

# Import `shared_task` from here, which makes sure that `app` exists. `app.task` would erase types.
__all__ = ["PREFIX", "BrokerError", "app", "check", "connect", "redis", "shared_task"]

logger = logging.getLogger(__name__)

PREFIX = "{{ cookiecutter.project_slug }}:"  # of each key, as projects may share a Redis
PAUSE = 1  # seconds in which nothing is handed over after Redis has failed
paused_until = 0.0


@contextmanager
def fail_fast() -> Iterator[None]:
    """Raise BrokerError at once if Redis has just failed.

    Otherwise, requests would queue for the threads that wait for a Redis that hangs.
    """
    global paused_until
    if time.monotonic() < paused_until:
        raise BrokerError("Redis has just failed")
    try:
        yield
    except BrokerError:
        paused_until = time.monotonic() + PAUSE
        raise


class ReliableTask(Task[Any, Any]):
    """A task that is retried three times. If it fails for good, it waits in the queue `failed`."""

    autoretry_for = (Exception,)
    dont_autoretry_for = (TypeError, ValidationError)  # wrong arguments stay wrong
    max_retries = 3
    retry_backoff = 5  # seconds before the first retry, doubled for each further one
    retry_backoff_max = 100  # less than `visibility_timeout`, after which another worker gets it
    retry_jitter = False
    Request = f"{__package__}.worker:Request"

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Hand over the task.

        Raises TypeError if the arguments do not fit, and BrokerError if Redis does not take it.
        """
        # Celery checks the decorated function, which may take anything.
        signature(self.run).bind(*(args or ()), **(kwargs or {}))
        with nullcontext() if current_task else fail_fast():  # a worker can wait
            return super().apply_async(args, kwargs, *more, **options)

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """Schedule a retry. If Redis does not take it, return the task to its queue."""
        try:
            return super().retry(*args, **kwargs)
        except Reject as rejection:
            reason = rejection.args[0]
            if not isinstance(reason, BrokerError):
                raise
            time.sleep(PAUSE)  # else a worker that is idle would take it again at once
            raise Reject(reason, requeue=True) from rejection

    def on_failure(self, exc: object, task_id: str, *_: object) -> None:
        """Reject a task that ran out of memory; Celery would end the whole worker."""
        if isinstance(exc, MemoryError):
            logger.error("Task %s[%s] ran out of memory", self.name, task_id)
            raise Reject(exc, requeue=False)


# kombu looks a scheme up once, so this stands before the first connection.
TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__package__}.transport:Transport"

app = Celery(__package__, broker=str(settings.redis_url), task_cls=ReliableTask)
app.set_default()  # for the threads that FastAPI runs endpoints in
app.conf.update(
    # Pickle would let anyone who can write to Redis run code.
    accept_content=["json"],
    task_serializer="json",
    # Nothing reads results.
    task_ignore_result=True,
    # Acknowledge a task when it is done, so that it survives a worker that dies.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # Reject a task that fails for good: `transport` then moves it to the queue `failed`.
    task_acks_on_failure=False,
    worker_consumer=f"{__package__}.worker:Consumer",
    # Reserve no task in advance: it would wait while its `visibility_timeout` passes.
    worker_prefetch_multiplier=1,
    # Retries wait in the worker, up to this many at a time.
    worker_eta_task_limit=100,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # By default, kombu trusts any certificate.
    broker_use_ssl=(
        {"ssl_cert_reqs": CERT_REQUIRED} if settings.redis_url.scheme == "rediss" else None
    ),
    broker_transport_options={
        "global_keyprefix": PREFIX,
        # Seconds until another worker gets a killed worker's task. Longer tasks need more.
        "visibility_timeout": 120,
        # Look for such tasks every 10 seconds, and do not lock others out for longer.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 10,
        # One list per queue: `transport` knows no priorities.
        "priority_steps": [0],
        # A request waits for these up to three times.
        "socket_connect_timeout": 0.5,
        "socket_timeout": 0.5,
    },
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
    # One connection for each thread that FastAPI runs endpoints in.
    broker_pool_limit=40,
    # Keep the schedule in memory instead of in a file.
    beat_scheduler="celery.beat:Scheduler",
    beat_schedule={
        "heartbeat": {
            "task": f"{__package__}.tasks.log_service_event",
            "schedule": settings.heartbeat_interval,
            "args": ({"service_name": settings.service_name}, "heartbeat"),
            # A heartbeat that no worker ran in time is dropped.
            "options": {"expires": settings.heartbeat_interval},
        },
    },
)

# Unlike Celery's connections, these try only once.
redis = Redis.from_url(
    str(settings.redis_url),
    socket_connect_timeout=1,
    socket_timeout=1,
    retry=Retry(NoBackoff(), retries=0),
)


def check() -> None:
    """Raise BrokerError if Redis would not take a task."""
    with fail_fast():
        try:
            with redis.pipeline(transaction=False) as pipeline:
                pipeline.llen(f"{PREFIX}{app.conf.task_default_queue}")  # fails if it is no queue
                pipeline.set(f"{PREFIX}check", "", ex=10)  # fails on a full or read-only Redis
                pipeline.execute()
        except RedisError as error:
            raise BrokerError(*error.args) from error


def connect() -> None:
    """Prepare to hand over tasks; raises BrokerError if Redis would not take them."""
    check()
    with app.producer_or_acquire():
        _ = app.backend, app.amqp.send_task_message  # Celery loads these at first use


@before_task_publish.connect
def inject_trace(headers: dict[str, Any], **_: object) -> None:
    """Connect a task with the request that hands it over."""
    headers["trace_headers"] = tracing.inject()
