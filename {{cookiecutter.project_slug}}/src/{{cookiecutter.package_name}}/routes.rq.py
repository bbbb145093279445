"""The four examples, run by an RQ worker."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from .models import EmailAddress, Line, Scheduled, scheduling_responses
from .settings import settings
from .tasks import Config, log_service_event, send_email, write_log
from .worker import enqueue, options, queue

router = APIRouter(tags=["background tasks"])

# Endpoints are plain functions, which FastAPI runs in threads, as handing over may take a while.


@router.post(
    "/log/",
    summary="Write a log line",
    responses=scheduling_responses("Log task has been scheduled"),
)
def log(
    message: Annotated[Line, Query(description="The line to write", examples=["hello"])],
) -> Scheduled:
    """Writes `message` to the channel `log`: one task with one argument."""
    enqueue(write_log, message)
    return Scheduled(message="Log task has been scheduled")


@router.post(
    "/send-notification/{email:address}",
    summary="Send a notification",
    responses=scheduling_responses("Notification scheduled for ada@example.com"),
)
def send_notification(
    email: Annotated[EmailAddress, Path(description="Recipient", examples=["ada@example.com"])],
) -> Scheduled:
    """Sends `email` a message, that is, writes it to the channel `emails`: nobody waits for it."""
    enqueue(send_email, email, "This is your notification content.")
    return Scheduled(message=f"Notification scheduled for {email}")


@router.post(
    "/complex-task/",
    summary="Run two tasks in order",
    responses=scheduling_responses("Complex task scheduled"),
)
def complex_task() -> Scheduled:
    """Writes to the channel `task_log`, and only then tells the operator: two tasks in order."""
    started = queue.create_job(write_log, ("Task started", "task_log"), **options())
    started.save()
    # Both are put into the queue, or neither is: the pipeline is one transaction.
    with queue.connection.pipeline() as pipeline:
        queue.enqueue(
            send_email,
            settings.operator_email,
            "Your task is complete!",
            depends_on=started,
            **options(),
            pipeline=pipeline,
        )
        queue.enqueue_job(started, pipeline=pipeline)
        pipeline.execute()
    return Scheduled(message="Complex task scheduled")


@router.post(
    "/service-event/",
    summary="Log an event with the service's name",
    responses=scheduling_responses("Service event logged"),
)
def service_event(
    event: Annotated[Line, Query(description="What happened", examples=["cache cleared"])],
) -> Scheduled:
    """Writes `event` to the channel `service_log`: the task is handed state, a `Config`."""
    config = Config(service_name=settings.service_name)
    enqueue(log_service_event, config.model_dump(mode="json"), event)
    return Scheduled(message="Service event logged")
