"""The four examples. An RQ worker runs their tasks."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query

from .broker import enqueue, enqueue_in_order
from .models import REFUSALS, EmailAddress, Line, Scheduled
from .settings import settings
from .tasks import Config, log_service_event, send_email, write_log

router = APIRouter(tags=["background tasks"], responses=REFUSALS)

# Endpoints are plain functions, which FastAPI runs in threads, because Redis may take a while.


@router.post("/log/", summary="Write a log line")
def log(
    message: Annotated[Line, Query(description="The line to write", examples=["hello"])],
) -> Scheduled:
    """Writes `message` to the channel `log`: one task with one argument."""
    enqueue(write_log, message)
    return Scheduled(message="Log task has been scheduled")


@router.post("/send-notification/{email:address}", summary="Send a notification")
def send_notification(
    email: Annotated[EmailAddress, Path(description="Recipient", examples=["ada@example.com"])],
) -> Scheduled:
    """Sends a message to `email` after the response, so the client does not wait for it."""
    enqueue(send_email, email, "This is your notification content.")
    return Scheduled(message=f"Notification scheduled for {email}")


@router.post("/complex-task/", summary="Run two tasks in order")
def complex_task() -> Scheduled:
    """Writes to the channel `task_log`, and only then notifies the operator."""
    enqueue_in_order(
        partial(write_log, "Task started", channel="task_log"),
        partial(send_email, settings.operator_email, "Your task is complete!"),
    )
    return Scheduled(message="Complex task scheduled")


@router.post("/service-event/", summary="Log an event with the service's name")
def service_event(
    event: Annotated[Line, Query(description="The event", examples=["cache cleared"])],
) -> Scheduled:
    """Writes `event` to the channel `service_log`: the task gets state, a `Config`."""
    config = Config(service_name=settings.service_name)
    enqueue(log_service_event, config, event)
    return Scheduled(message="Service event logged")
