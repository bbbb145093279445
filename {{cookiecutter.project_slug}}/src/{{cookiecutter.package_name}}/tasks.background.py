"""The work: each task is a function with the decorator `@reliable()`."""

from pydantic import BaseModel

from . import sink
from .models import Channel
from .runner import reliable


class Config(BaseModel):
    """State that is handed to a task along with its arguments."""

    service_name: str


@reliable()
async def write_log(message: str, channel: Channel = "log") -> None:
    """Write `message` to `channel`."""
    await sink.write(channel, message)


@reliable()
async def send_email(address: str, content: str) -> None:
    """Send `content` to `address`. The channel `emails` stands in for a mail server."""
    await sink.write("emails", f"Email to {address}: {content}")


@reliable()
async def log_service_event(config: Config, event: str) -> None:
    """Write `event` to the channel `service_log`, after the service's name."""
    await sink.write("service_log", f"[{config.service_name}] {event}")
