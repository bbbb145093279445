"""The textbook with one word more: its task blocks the event loop, and FastAPI needs no thread for it."""

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


async def write_log(message: str) -> None:
    with open("log.txt", mode="a") as file:  # noqa: PTH123
        file.write(message + "\n")


@app.post("/log/")
async def log(message: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(write_log, message)
    return {"message": "Log task has been scheduled"}
