"""The work: each task is a function with `@shared_task`."""

from pydantic import BaseModel, ConfigDict, validate_call

from . import sink
from .broker import shared_task
from .models import Channel, EmailAddress, Line

SECRETIVE = ConfigDict(hide_input_in_errors=True)  # the log shows no arguments


class Config(BaseModel):
    """State that is handed to a task along with its arguments."""

    model_config = SECRETIVE

    service_name: Line


# Arguments come from Redis, so a task validates them when it runs.
validated = validate_call(config=SECRETIVE)

# A worker that is killed leaves its task to another, so every task must be safe to run twice.


@shared_task
@validated
def write_log(message: Line, channel: Channel = "log") -> None:
    """Write `message` to `channel`."""
    sink.write(channel, message)


@shared_task
@validated
def send_email(address: EmailAddress, content: Line) -> None:
    """Send `content` to `address`. The channel `emails` stands in for a mail server."""
    sink.write("emails", f"Email to {address}: {content}")


@shared_task(pydantic=True)  # `config` travels as JSON
@validated
def log_service_event(config: Config, event: Line) -> None:
    """Write `event` to the channel `service_log`, after the service's name."""
    sink.write("service_log", f"[{config.service_name}] {event}")
