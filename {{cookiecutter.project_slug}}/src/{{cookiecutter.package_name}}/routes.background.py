"""The four examples, run by FastAPI in this process once their response is sent."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Path, Query

from .models import EmailAddress, Line, Scheduled, scheduling_responses
from .runner import log_service_event, send_email, write_log
from .settings import settings
from .tasks import Config

router = APIRouter(tags=["background tasks"])


@router.post(
    "/log/",
    summary="Write a log line",
    responses=scheduling_responses("Log task has been scheduled"),
)
async def log(
    message: Annotated[Line, Query(description="The line to write", examples=["hello"])],
    background_tasks: BackgroundTasks,
) -> Scheduled:
    """Writes `message` to the channel `log`: one task with one argument."""
    background_tasks.add_task(write_log, message)
    return Scheduled(message="Log task has been scheduled")


@router.post(
    "/send-notification/{email:address}",
    summary="Send a notification",
    responses=scheduling_responses("Notification scheduled for ada@example.com"),
)
async def send_notification(
    email: Annotated[EmailAddress, Path(description="Recipient", examples=["ada@example.com"])],
    background_tasks: BackgroundTasks,
) -> Scheduled:
    """Sends `email` a message, that is, writes it to the channel `emails`: nobody waits for it."""
    background_tasks.add_task(send_email, email, "This is your notification content.")
    return Scheduled(message=f"Notification scheduled for {email}")


@router.post(
    "/complex-task/",
    summary="Run two tasks in order",
    responses=scheduling_responses("Complex task scheduled"),
)
async def complex_task(background_tasks: BackgroundTasks) -> Scheduled:
    """Writes to the channel `task_log`, and only then tells the operator: two tasks in order."""
    background_tasks.add_task(write_log, "Task started", channel="task_log")
    background_tasks.add_task(send_email, settings.operator_email, "Your task is complete!")
    return Scheduled(message="Complex task scheduled")


@router.post(
    "/service-event/",
    summary="Log an event with the service's name",
    responses=scheduling_responses("Service event logged"),
)
async def service_event(
    event: Annotated[Line, Query(description="What happened", examples=["cache cleared"])],
    background_tasks: BackgroundTasks,
) -> Scheduled:
    """Writes `event` to the channel `service_log`: the task is handed state, a `Config`."""
    config = Config(service_name=settings.service_name)
    background_tasks.add_task(log_service_event, config, event)
    return Scheduled(message="Service event logged")
