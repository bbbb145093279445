"""The RQ worker: `python -m {{ cookiecutter.package_name }}.worker` runs the tasks."""

import logging
import sys
from contextlib import suppress

from redis import Redis
from rq import Queue, Worker
from rq.exceptions import DeserializationError, InvalidJobOperation
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from . import logs, sink, tasks, tracing
from .broker import BrokerError, check, queue
from .settings import abort, settings

__all__ = ["TracingWorker", "cancel_dependents", "main", "tasks"]


class TracingWorker(Worker):
    """Connects the logs and spans of jobs with their requests."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job in a process of its own, and wait for it."""
        try:
            name = str(job.func_name)
        except DeserializationError:  # the job fails in its own process
            name = "unreadable"
        with tracing.task_span(name, job.meta) as span:
            super().execute_job(job, queue)
            with suppress(InvalidJobOperation):  # the job may be gone by now
                if span.is_recording() and job.get_status() != JobStatus.FINISHED:
                    tracing.mark_failed(span)

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Run a job in this process, and export its spans before the process ends."""
        try:
            return super().perform_job(job, queue, execution)
        finally:
            tracing.flush()


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
                failed.append(dependent)


def requeue_failed() -> None:
    """Run the jobs again that failed for good."""
    registry = queue.failed_job_registry
    job_ids = registry.get_job_ids()
    for job_id in job_ids:
        registry.requeue(job_id)
    sys.stdout.write(f"{len(job_ids)} failed jobs are queued again\n")


def main() -> None:
    """Run tasks until a signal asks for a stop; the running task is finished first."""
    logs.configure()
    # RQ logs every 15 seconds that it looks after its registries.
    logging.getLogger("rq.worker").addFilter(lambda record: "cleaning" not in record.msg)
    tracing.configure()
    try:
        sink.check()
        check()
    except OSError as error:
        abort(str(error))
    except BrokerError as error:
        abort(f"REDIS_URL: {error}")
    worker = TracingWorker(
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
    worker.work(with_scheduler=True)  # which also starts the retries
    tracing.flush()


if __name__ == "__main__":
    main()
