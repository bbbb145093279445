"""The tutorials' service on RQ: every setting as RQ ships it."""

import os

from fastapi import FastAPI
from redis import Redis
from rq import Queue

queue = Queue(connection=Redis.from_url(os.environ["REDIS_URL"]))
app = FastAPI()


def write_log(message: str) -> None:
    with open("log.txt", mode="a") as file:  # noqa: PTH123
        file.write(message + "\n")


@app.post("/log/")
def log(message: str) -> dict[str, str]:
    queue.enqueue(write_log, message)
    return {"message": "Log task has been scheduled"}
