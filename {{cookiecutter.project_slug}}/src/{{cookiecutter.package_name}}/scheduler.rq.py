"""The schedule: run this module once, however many workers there are."""

import logging
import time

from redis import Redis
from rq import Queue, cron_job_registry
from rq.cron import CronJob, CronScheduler
from rq.defaults import DEFAULT_CRON_JOB_HISTORY_LIMIT, DEFAULT_CRON_JOB_HISTORY_TTL
from rq.job import Job
from rq.serializers import JSONSerializer

from . import logs
from .broker import RETRY, BrokerError, check, queue
from .settings import abort, settings
from .tasks import Config, log_service_event

logger = logging.getLogger(__name__)


class JSONCronJob(CronJob):
    """A cron job that is enqueued as JSON and retried. RQ's own is pickled."""

    def enqueue(self, connection: Redis) -> Job:
        """Put one run of the job into its queue, and into the history that RQ keeps."""
        target = Queue(self.queue_name, connection=connection, serializer=JSONSerializer)
        with connection.pipeline() as pipeline:
            job = target.enqueue(
                self.func_name,
                args=self.args,
                kwargs=self.kwargs,
                description=self.name,
                retry=RETRY,
                pipeline=pipeline,
                **self.job_options,
            )
            now = time.time()
            pipeline.zadd(self.job_history_key, {job.id: now})
            pipeline.zremrangebyrank(self.job_history_key, 0, -(DEFAULT_CRON_JOB_HISTORY_LIMIT + 1))
            pipeline.expire(self.job_history_key, DEFAULT_CRON_JOB_HISTORY_TTL)
            cron_job_registry.add(self.name, pipeline, enqueue_timestamp=now)
            pipeline.execute()
        logger.info("Enqueued %s (%s)", self.name, job.id)
        return job


JOBS = [
    JSONCronJob(
        queue.name,
        func=log_service_event,
        args=(Config(service_name=settings.service_name).model_dump(mode="json"), "heartbeat"),
        interval=settings.heartbeat_interval,
        ttl=settings.heartbeat_interval,  # a heartbeat that no worker ran in time is dropped
        name=f"{queue.name}.heartbeat",  # RQ keeps the histories of all services in one place
    ),
]


def main() -> None:
    """Enqueue the jobs that are due until a signal asks for a stop."""
    logs.configure()
    try:
        check()
    except BrokerError as error:
        abort(f"REDIS_URL: {error}")
    scheduler = CronScheduler(connection=Redis.from_url(str(settings.redis_url)))
    scheduler.get_jobs().extend(JOBS)
    scheduler.start()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
