"""RQ alone, in a module that a worker's process imports in no time: every setting as RQ ships it."""

import os

from redis import Redis
from rq import Queue

queue = Queue("myservice", connection=Redis.from_url(os.environ["REDIS_URL"]))


def empty() -> None:
    """What a worker could do at best: nothing."""
