"""The tutorials' service on Celery: every setting as Celery ships it."""

import os

from celery import Celery
from fastapi import FastAPI

celery = Celery("tutorial_celery", broker=os.environ["REDIS_URL"])
app = FastAPI()


@celery.task
def write_log(message: str) -> None:
    with open("log.txt", mode="a") as file:  # noqa: PTH123
        file.write(message + "\n")


@app.post("/log/")
def log(message: str) -> dict[str, str]:
    write_log.delay(message)
    return {"message": "Log task has been scheduled"}
