"""The queue that the service hands its tasks to, and the worker that runs them: run this module."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError as BrokerError
from redis.retry import Retry as Reconnect
from rq import Queue, Retry, Worker
from rq.exceptions import DeserializationError, InvalidJobOperation
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from . import logs, sink, tracing
from .settings import refuse_to_start, settings

__all__ = ["RETRY", "BrokerError", "connect", "enqueue", "options", "queue"]

# A task that fails is tried three times more, after so many seconds each; then it is kept, with its
# reason, in RQ's registry of failed jobs: see to the cause, and have it done by `rq requeue --all`.
RETRY = Retry(max=3, interval=[5, 10, 20])

# JSON on both sides: to read a job runs nothing. But a job names the function that is run, so that
# whoever can write to Redis can have anything run.
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


def options() -> dict[str, Any]:
    """What every job of a request is enqueued with."""
    return {"retry": RETRY, "meta": tracing.carrier()}


def enqueue(function: Callable[..., None], *arguments: object) -> None:
    """Hand a task to the workers; raises BrokerError if Redis does not take it.

    The pipeline saves one of the two round trips to Redis that RQ takes by itself.
    """
    with queue.connection.pipeline() as pipeline:
        queue.enqueue(function, *arguments, **options(), pipeline=pipeline)
        pipeline.execute()


class TracingWorker(Worker):
    """Logs and traces jobs as parts of their requests."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job, in a process of its own, and wait for it."""
        try:
            name = str(job.func_name)
        except DeserializationError:  # which fails the job, in its process
            name = "unreadable"
        with tracing.continued(name, job.meta) as span:
            super().execute_job(job, queue)
            # Of a job that is gone, nobody knows how it ended.
            with suppress(InvalidJobOperation):
                if span.is_recording() and job.get_status() != JobStatus.FINISHED:
                    tracing.fail(span)

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Run a job in this process, which ends with it and takes along what it has not sent."""
        try:
            return super().perform_job(job, queue, execution)
        finally:
            tracing.flush()


def cancel_dependents(job: Job, *_: object) -> None:
    """Cancel all that was to follow a job that has failed for good; RQ would let it wait forever."""
    if job.should_retry:
        return
    ended = [job]
    while ended:
        ids = ended.pop().dependent_ids
        for dependent in Job.fetch_many(ids, job.connection, serializer=JSONSerializer):
            # It may be cancelled already: the job may have failed before, and been requeued by hand.
            if dependent and not dependent.is_canceled:
                dependent.cancel()
                ended.append(dependent)


def main() -> None:
    """Run tasks until a signal says stop; the task that runs then is finished first."""
    # The process of each task would import it anew, which takes longer than to write a line.
    from . import tasks  # noqa: F401

    logs.configure()
    tracing.configure()
    try:
        sink.check()
        connect()
    except OSError as error:
        refuse_to_start(f"records cannot be written: {error}")
    except BrokerError as error:
        refuse_to_start(f"REDIS_URL: {error}")
    worker = TracingWorker(
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
    # The scheduler is what retries wait in.
    worker.work(with_scheduler=True)
    tracing.flush()


if __name__ == "__main__":
    main()
