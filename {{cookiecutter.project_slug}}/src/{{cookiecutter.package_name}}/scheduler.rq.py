"""What happens at regular times: run this module, once for all workers."""

from redis import Redis
from rq import Queue
from rq.cron import CronJob, CronScheduler
from rq.job import Job
from rq.serializers import JSONSerializer

from . import logs
from .settings import refuse_to_start, settings
from .tasks import Config, log_service_event
from .worker import RETRY, BrokerError, connect, queue


class ReliableCronJob(CronJob):
    """A job whose runs travel as JSON and are retried, neither of which RQ's own can be told."""

    def enqueue(self, connection: Redis) -> Job:
        """Put one run of the job into its queue; it expires if no worker comes before the next."""
        target = Queue(self.queue_name, connection=connection, serializer=JSONSerializer)
        return target.enqueue(self.func_name, *self.args, retry=RETRY, ttl=self.interval)


def main() -> None:
    """Enqueue what is due until a signal says stop."""
    logs.configure()
    try:
        connect()
    except BrokerError as error:
        refuse_to_start(f"REDIS_URL: {error}")
    config = Config(service_name=settings.service_name)
    scheduler = CronScheduler(connection=Redis.from_url(str(settings.redis_url)))
    scheduler.get_jobs().append(
        ReliableCronJob(
            queue.name,
            func=log_service_event,
            args=(config.model_dump(mode="json"), "heartbeat"),
            interval=settings.heartbeat_interval,
        )
    )
    scheduler.start()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
