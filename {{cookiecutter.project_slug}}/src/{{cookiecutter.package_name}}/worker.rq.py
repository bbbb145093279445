"""The RQ worker: `python -m {{ cookiecutter.package_name }}.worker` runs the tasks."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError
from rq import Queue, Worker
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.exceptions import DeserializationError, InvalidJobOperation, StopRequested
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import as_text

from . import logs, sink, tracing
from . import tasks as tasks  # loaded here, so that the process of each job need not load them
from .broker import BrokerError, check, queue
from .jobs import TaskJob, UnknownTask
from .settings import abort, settings

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

ENDS = (RedisError, StopRequested)  # the exceptions with which a worker may end


def waiting_for_memory(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], T]:
    """Let a method of the worker wait while Redis is full. RQ's worker would end."""

    def wait(worker: Worker, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return method(worker, *args, **kwargs)
            except OutOfMemoryError as error:
                logger.error("Redis is full, and tasks wait: %s", error)
                worker.connection.expire(worker.key, worker.worker_ttl + 60)  # needs no memory
                time.sleep(2)

    return wait


class TaskWorker(Worker):
    """Connects jobs with their requests, and goes on where RQ's worker would end."""

    job_class = TaskJob
    told_to_stop = False

    check_for_suspension = waiting_for_memory(Worker.check_for_suspension)
    heartbeat = waiting_for_memory(Worker.heartbeat)
    maintain_heartbeats = waiting_for_memory(Worker.maintain_heartbeats)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop when the running job is done."""
        self.told_to_stop = True
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    @waiting_for_memory
    def run_maintenance_tasks(self) -> None:
        """Retry the jobs of killed workers, and the like."""
        self.put_aside_unreadable_jobs()
        lock = self.queues[0].registry_cleaning_key
        if self.connection.ttl(lock) > 60:  # RQ would wait 15 minutes for a worker that was killed
            self.connection.expire(lock, 60)
        try:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except ENDS:
            raise
        except Exception:  # an unreadable entry, for instance, must not keep tasks from running
            logger.exception("Maintenance failed")

    @waiting_for_memory
    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Take the next job that can be read."""
        while True:
            try:
                return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            except StopRequested:
                raise
            except Exception:
                if not self.put_aside_unreadable_jobs():
                    raise

    def put_aside_unreadable_jobs(self) -> int:
        """Move ids that were taken and lead to no readable job to a list; return their number."""
        queue = self.queues[0]
        taken, aside = queue.intermediate_queue_key, f"{queue.key}:unreadable"
        unreadable = 0
        for job_id in self.connection.lrange(taken, 0, -1):
            try:
                queue.fetch_job(as_text(job_id))
            except Exception as error:
                if isinstance(error, RedisError) and "WRONGTYPE" not in str(error):
                    raise
                with self.connection.pipeline() as pipeline:
                    pipeline.lrem(taken, 0, job_id)  # type: ignore[arg-type]
                    pipeline.rpush(aside, job_id)
                    pipeline.execute()
                logger.error("The job %.50r is unreadable, and put into the list %s", job_id, aside)
                unreadable += 1
        return unreadable

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job in a process of its own, and wait for it."""
        try:
            name = str(job.func_name)
        except DeserializationError:  # the job fails in its own process
            name = "unreadable"
        with tracing.task_span(name, {key: str(job.meta[key]) for key in job.meta}) as span:
            try:
                super().execute_job(job, queue)
            except OutOfMemoryError as error:  # the job counts as taken by a worker that was killed
                logger.error("Redis is full, and the job %s may run again: %s", job.id, error)
                self.executions.clear()
            with suppress(InvalidJobOperation):  # the job may be gone by now
                if span.is_recording() and job.get_status() != JobStatus.FINISHED:
                    tracing.mark_failed(span)

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Run a job in this process, and export its spans before the process ends."""
        try:
            return super().perform_job(job, queue, execution)
        finally:
            tracing.flush()

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log a failure. A job that cannot succeed is not retried."""
        if isinstance(exc_info[1], (DeserializationError, UnknownTask, ValidationError)):
            job.retries_left = 0
        super().handle_exception(job, *exc_info)


def cancel_dependents(job: Job, *_: object) -> None:
    """Cancel the jobs that wait for a job that failed for good; RQ would let them wait forever."""
    if job.should_retry:
        return
    failed = [job]
    while failed:
        ids = failed.pop().dependent_ids
        for dependent in Job.fetch_many(ids, job.connection, serializer=JSONSerializer):
            if dependent and not dependent.is_canceled:
                dependent.cancel()
                # RQ would keep it forever.
                job.connection.expire(dependent.key, DEFAULT_FAILURE_TTL)
                failed.append(dependent)


def requeue_failed() -> None:
    """Run the jobs again that failed for good, with their retries."""
    registry = queue.failed_job_registry
    count = 0
    try:
        for job_id in registry.get_job_ids():
            if job := queue.fetch_job(job_id):  # it may have expired
                job.retries_left = len(job.retry_intervals or [])
                registry.requeue(job)
                count += 1
    except RedisError as error:
        abort(f"REDIS_URL: {error}")
    sys.stdout.write(f"Failed tasks queued again: {count}\n")


def tidy(record: logging.LogRecord) -> bool:
    """Keep the arguments of jobs, and the news of each 15 seconds, out of RQ's log."""
    vars(record).pop("arguments", None)
    vars(record).pop("kwargs", None)
    return "cleaning" not in str(record.msg)


def main() -> None:
    """Run tasks until a signal asks for a stop; the running task is finished first."""
    logs.configure()
    logging.getLogger("rq.worker").addFilter(tidy)
    tracing.configure()
    try:
        sink.check()
        check()
    except OSError as error:
        abort(str(error))
    except BrokerError as error:
        abort(f"REDIS_URL: {error}")
    worker = TaskWorker(
        [queue.name],
        connection=Redis.from_url(str(settings.redis_url)),
        serializer=JSONSerializer,
        default_result_ttl=60,  # seconds; nothing reads results
        exception_handlers=[cancel_dependents],
        work_horse_killed_handler=cancel_dependents,
        # A killed worker's job is retried once it has sent no heartbeat for 70 seconds (the
        # monitoring interval plus 60) and an idle worker has looked, as it does every 15 seconds.
        job_monitoring_interval=10,
        maintenance_interval=15,
        worker_ttl=30,
    )
    with suppress(OutOfMemoryError):  # a full Redis does not take the worker's farewell
        worker.work(with_scheduler=True)  # which also starts the retries
    tracing.flush()
    if not worker.told_to_stop:  # RQ has logged why, and returns as after a stop
        sys.exit(1)


if __name__ == "__main__":
    main()
