"""The queue that the service hands its tasks to, and the worker that runs them: run this module."""

import gc
import logging
from collections.abc import Callable

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError as BrokerError
from redis.retry import Retry as Reconnect
from rq import Queue, Retry, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from . import sink
from .settings import refuse_to_start, settings

__all__ = ["RETRY", "BrokerError", "connect", "enqueue", "queue"]

# A task that fails is tried three times more, after so many seconds each; then it is kept, with its
# reason, in RQ's registry of failed jobs: see to the cause, and have it done by `rq requeue --all`.
RETRY = Retry(max=3, interval=[5, 10, 20])

# JSON on both sides: with RQ's default, whoever can write to Redis could have workers run anything.
queue = Queue(
    serializer=JSONSerializer,
    # A request waits for each answer of Redis one second at most, and does not try again.
    connection=Redis.from_url(
        str(settings.redis_url),
        socket_connect_timeout=1,
        socket_timeout=1,
        retry=Reconnect(NoBackoff(), retries=0),
    ),
)


def connect() -> None:
    """Have a connection to Redis ready; raises BrokerError if there is none to be had."""
    queue.connection.ping()


def enqueue(function: Callable[..., None], *arguments: object) -> None:
    """Hand a task to the workers; raises BrokerError if Redis does not take it.

    The pipeline saves one of the two round trips to Redis that RQ takes by itself.
    """
    with queue.connection.pipeline() as pipeline:
        queue.enqueue(function, *arguments, retry=RETRY, pipeline=pipeline)
        pipeline.execute()


def cancel_dependents(job: Job, *_: object) -> None:
    """Cancel what was to follow a job that has failed for good; RQ would let it wait forever."""
    if job.should_retry:
        return
    for dependent in Job.fetch_many(job.dependent_ids, job.connection, serializer=JSONSerializer):
        # It may be cancelled already: the job may have failed before, and been requeued by hand.
        if dependent and not dependent.is_canceled:
            dependent.cancel()


def main() -> None:
    """Run tasks until a signal says stop; the task that runs then is finished first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        sink.check()
    except OSError as error:
        refuse_to_start(f"records cannot be written: {error}")
    worker = Worker(
        [queue.name],
        connection=Redis.from_url(str(settings.redis_url)),
        serializer=JSONSerializer,
        default_result_ttl=60,  # seconds; nobody asks for results
        exception_handlers=[cancel_dependents],
        work_horse_killed_handler=cancel_dependents,
        # By their ids: else RQ logs the arguments of tasks too, and their durations without an id.
        log_job_description=False,
        # What a killed worker held is retried once nobody has vouched for it for 70 seconds (60 more
        # than the monitoring interval) and an idle worker has looked, as it does every 15.
        job_monitoring_interval=10,
        maintenance_interval=15,
        worker_ttl=30,
    )
    # Each task runs in a fork of this process: what is loaded by now is not copied to be looked through.
    gc.freeze()
    # The scheduler is what retries wait in.
    worker.work(with_scheduler=True)


if __name__ == "__main__":
    main()
