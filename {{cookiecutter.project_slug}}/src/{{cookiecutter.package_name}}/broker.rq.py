"""The RQ queue in Redis, and how tasks are put into it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec

from pydantic import ConfigDict, validate_call
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

__all__ = ["RETRY", "BrokerError", "check", "enqueue", "enqueue_in_order", "queue", "task"]

P = ParamSpec("P")

task = validate_call(config=ConfigDict(hide_input_in_errors=True))
"""Makes a function a task. It validates its arguments, which come from Redis, when it runs."""

# A task that fails for good stays in RQ's registry of failed jobs: see `poe failed`.
RETRY = Retry(max=3, interval=[5, 10, 20])  # seconds

# The name keeps services apart that share a Redis.
queue = Queue(
    "{{ cookiecutter.project_slug }}",
    serializer=JSONSerializer,  # RQ's default, pickle, would run code while it reads a job
    # A request waits at most a second for each answer of Redis.
    connection=Redis.from_url(
        str(settings.redis_url),
        socket_connect_timeout=1,
        socket_timeout=1,
        retry=Reconnect(NoBackoff(), retries=0),
    ),
)

_refused_until = 0.0  # the time until which Redis is not tried, or 0 while it answers


@contextmanager
def _refusal_after_failure() -> Iterator[None]:
    """After a failure, refuse hand-overs for a second; then let a single one try Redis.

    Otherwise, all threads would wait for a Redis that hangs, and further requests for a thread.
    """
    global _refused_until
    if time.monotonic() < _refused_until:
        raise BrokerError("Redis has failed a moment ago")
    if _refused_until:
        _refused_until = time.monotonic() + 2  # longer than Redis may take to answer
    try:
        yield
    except BrokerError:
        _refused_until = time.monotonic() + 1
        raise
    _refused_until = 0.0


def check() -> None:
    """Raise BrokerError if Redis would not take a task."""
    with _refusal_after_failure(), queue.connection.pipeline(transaction=False) as pipeline:
        pipeline.llen(queue.key)  # fails if the key is no queue
        pipeline.set(f"{queue.key}:check", "", ex=10)  # fails on a full or read-only Redis
        pipeline.execute()


def enqueue(function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> Job:
    """Hand a task to the workers; raises BrokerError if Redis does not take it."""
    job = _create_job(partial(function, *args, **kwargs))
    with _refusal_after_failure(), queue.connection.pipeline() as pipeline:  # one round trip
        queue.enqueue_job(job, pipeline=pipeline)
        pipeline.execute()
    return job


def enqueue_in_order(first: partial[None], second: partial[None]) -> tuple[Job, Job]:
    """Hand over two tasks, of which the second waits for the first.

    Raises BrokerError if Redis does not take them: then neither runs.
    """
    first_job = _create_job(first)
    second_job = _create_job(second, depends_on=first_job)
    with _refusal_after_failure(), queue.connection.pipeline() as pipeline:
        first_job.save()
        queue.connection.expire(first_job.key, 60)  # unless Redis takes the rest, too
        queue.enqueue_job(second_job, pipeline=pipeline)
        queue.enqueue_job(first_job, pipeline=pipeline)
        pipeline.persist(first_job.key)
        pipeline.execute()
    return first_job, second_job


def _create_job(call: partial[None], **options: Any) -> Job:
    if not hasattr(call.func, "raw_function"):
        raise TypeError(f"{call.func} is no task: it needs the decorator `@task`")
    return queue.create_job(
        call.func,
        to_jsonable_python(call.args),
        to_jsonable_python(call.keywords),
        description=call.func.__name__,  # RQ's own shows the arguments
        retry=RETRY,
        meta=tracing.inject(),
        **options,
    )
