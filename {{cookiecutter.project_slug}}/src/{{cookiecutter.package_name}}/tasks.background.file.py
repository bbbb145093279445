"""The work itself: functions that know nothing of requests, nor of what runs them.

They are `async def`, so that FastAPI runs them on the event loop: with LOG_DIR on a local disk, the
operating system takes a line in microseconds, a tenth of what it costs to have a thread do it. Work
that takes longer belongs in a plain `def`, for which FastAPI takes a thread.
"""

from pydantic import BaseModel

from . import sink
from .models import Channel


class Config(BaseModel):
    """State that is handed to a task along with its arguments."""

    service_name: str


async def write_log(message: str, channel: Channel = "log") -> None:
    """Write `message` to `channel`. Raises OSError if that fails, as all tasks here do."""
    sink.write(channel, message)


async def send_email(address: str, content: str) -> None:
    """Send `content` to `address`: the channel `emails` stands in for a mail server."""
    sink.write("emails", f"Email to {address}: {content}")


async def log_service_event(config: Config, event: str) -> None:
    """Write `event` to the channel `service_log`, after the name that `config` holds."""
    sink.write("service_log", f"[{config.service_name}] {event}")
