"""Celery alone: every setting as Celery ships it."""

import os

from celery import Celery

app = Celery("bare_celery", broker=os.environ["REDIS_URL"])


@app.task
def empty() -> None:
    """What a worker could do at best: nothing."""
