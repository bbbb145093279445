"""The schedule: run this module once, however many workers there are."""

from redis import Redis
from rq import Queue
from rq.cron import CronJob, CronScheduler
from rq.job import Job
from rq.serializers import JSONSerializer

from . import logs
from .broker import RETRY, BrokerError, check, queue
from .settings import abort, settings
from .tasks import Config, log_service_event


class JSONCronJob(CronJob):
    """A cron job that is enqueued as JSON and retried. RQ's own is pickled."""

    def enqueue(self, connection: Redis) -> Job:
        """Put one run of the job into its queue."""
        target = Queue(self.queue_name, connection=connection, serializer=JSONSerializer)
        return target.enqueue(
            self.func_name,
            args=self.args,
            kwargs=self.kwargs,
            description=self.name,
            retry=RETRY,
            **self.job_options,
        )


def main() -> None:
    """Enqueue the jobs that are due until a signal asks for a stop."""
    logs.configure()
    try:
        check()
    except BrokerError as error:
        abort(f"REDIS_URL: {error}")
    config = Config(service_name=settings.service_name)
    scheduler = CronScheduler(connection=Redis.from_url(str(settings.redis_url)))
    scheduler.get_jobs().append(
        JSONCronJob(
            queue.name,
            func=log_service_event,
            args=(config.model_dump(mode="json"), "heartbeat"),
            interval=settings.heartbeat_interval,
            ttl=settings.heartbeat_interval,  # a heartbeat that no worker ran in time is dropped
        )
    )
    scheduler.start()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
