"""The textbook: a `def` task that opens its file, appends a line and closes it, in the thread pool."""

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


def write_log(message: str) -> None:
    with open("log.txt", mode="a") as file:  # noqa: PTH123
        file.write(message + "\n")


def send_email(email: str, content: str) -> None:
    with open("emails.txt", mode="a") as file:  # noqa: PTH123
        file.write(f"Email to {email}: {content}\n")


@app.post("/log/")
async def log(message: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(write_log, message)
    return {"message": "Log task has been scheduled"}


@app.post("/complex-task/")
async def complex_task(background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(write_log, "Task started")
    background_tasks.add_task(send_email, "user@example.com", "Your task is complete!")
    return {"message": "Complex task scheduled"}
