"""The work: each task is a function with `@task`."""

from pydantic import BaseModel

from . import sink
from .broker import task
from .models import Channel, EmailAddress, Line


class Config(BaseModel):
    """State that is handed to a task along with its arguments."""

    service_name: Line


# A worker that is killed leaves its task to another, so every task must be safe to run twice.


@task
def write_log(message: Line, channel: Channel = "log") -> None:
    """Write `message` to `channel`."""
    sink.write(channel, message)


@task
def send_email(address: EmailAddress, content: Line) -> None:
    """Send `content` to `address`. The channel `emails` stands in for a mail server."""
    sink.write("emails", f"Email to {address}: {content}")


@task
def log_service_event(config: Config, event: Line) -> None:
    """Write `event` to the channel `service_log`, after the service's name."""
    sink.write("service_log", f"[{config.service_name}] {event}")
