"""The textbook, on standard output: a `def` task that prints a record, in the thread pool."""

import json
from datetime import UTC, datetime

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


def write(channel: str, line: str) -> None:
    record = {"time": datetime.now(UTC).isoformat(), "channel": channel, "line": line}
    print(json.dumps(record), flush=True)


@app.post("/log/")
async def log(message: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(write, "log", message)
    return {"message": "Log task has been scheduled"}


@app.post("/complex-task/")
async def complex_task(background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(write, "task_log", "Task started")
    background_tasks.add_task(write, "emails", "Email to user@example.com: Your task is complete!")
    return {"message": "Complex task scheduled"}
