"""The RQ queue in Redis, and how tasks are put into it."""

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec

from pydantic_core import to_jsonable_python
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError as BrokerError
from redis.retry import Retry as Reconnect
from rq import Queue, Retry
from rq.job import Job
from rq.serializers import JSONSerializer

from . import tracing
from .settings import settings

__all__ = ["RETRY", "BrokerError", "check", "enqueue", "enqueue_in_order", "queue"]

P = ParamSpec("P")

# A task that fails for good stays in RQ's registry of failed jobs: see `poe failed`.
RETRY = Retry(max=3, interval=[5, 10, 20])  # seconds

# RQ's default, pickle, would run code while it reads a job. A job still names the function to run.
queue = Queue(
    serializer=JSONSerializer,
    # A request waits at most a second for each answer of Redis.
    connection=Redis.from_url(
        str(settings.redis_url),
        socket_connect_timeout=1,
        socket_timeout=1,
        retry=Reconnect(NoBackoff(), retries=0),
    ),
)


def check() -> None:
    """Raise BrokerError if Redis would not take a task."""
    with queue.connection.pipeline(transaction=False) as pipeline:
        pipeline.llen(queue.key)  # fails if the key is no queue
        pipeline.set(f"{queue.key}:check", "", ex=10)  # fails on a full or read-only Redis
        pipeline.execute()


def enqueue(function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> Job:
    """Hand a task to the workers; raises BrokerError if Redis does not take it."""
    job = _create_job(partial(function, *args, **kwargs))
    with queue.connection.pipeline() as pipeline:  # one round trip instead of two
        queue.enqueue_job(job, pipeline=pipeline)
        pipeline.execute()
    return job


def enqueue_in_order(first: partial[None], second: partial[None]) -> tuple[Job, Job]:
    """Hand over two tasks, of which the second waits for the first.

    Raises BrokerError if Redis does not take them: then neither runs.
    """
    first_job = _create_job(first)
    first_job.save()
    second_job = _create_job(second, depends_on=first_job)
    with queue.connection.pipeline() as pipeline:
        queue.enqueue_job(second_job, pipeline=pipeline)
        queue.enqueue_job(first_job, pipeline=pipeline)
        pipeline.execute()
    return first_job, second_job


def _create_job(task: partial[None], **options: Any) -> Job:
    return queue.create_job(
        task.func,
        to_jsonable_python(task.args),
        to_jsonable_python(task.keywords),
        description=task.func.__name__,  # by default, it shows the arguments
        retry=RETRY,
        meta=tracing.inject(),
        **options,
    )
