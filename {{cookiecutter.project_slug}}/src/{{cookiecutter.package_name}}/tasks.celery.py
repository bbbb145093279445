"""The work: each task is a function here, and nothing else is needed to register it."""

from pydantic import BaseModel

from . import sink
from .broker import shared_task
from .models import Channel


class Config(BaseModel):
    """State that is handed to a task along with its arguments."""

    service_name: str


# A worker that is killed leaves its task to another, so every task must be safe to run twice.


@shared_task
def write_log(message: str, channel: Channel = "log") -> None:
    """Write `message` to `channel`."""
    sink.write(channel, message)


@shared_task
def send_email(address: str, content: str) -> None:
    """Send `content` to `address`. The channel `emails` stands in for a mail server."""
    sink.write("emails", f"Email to {address}: {content}")


@shared_task(pydantic=True)  # `config` travels as JSON and is validated when the task runs
def log_service_event(config: Config, event: str) -> None:
    """Write `event` to the channel `service_log`, after the service's name."""
    sink.write("service_log", f"[{config.service_name}] {event}")
