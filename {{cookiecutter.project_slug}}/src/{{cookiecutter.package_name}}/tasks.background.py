"""The work itself: plain functions that know nothing of requests, nor of what runs them."""

from pydantic import BaseModel

from .models import Channel
from .writer import write


class Config(BaseModel):
    """State that is handed to a task along with its arguments."""

    service_name: str


async def write_log(message: str, channel: Channel = "log") -> None:
    """Write `message` to `channel`. Raises OSError if that fails, as all tasks here do."""
    await write(channel, message)


async def send_email(address: str, content: str) -> None:
    """Send `content` to `address`: the channel `emails` stands in for a mail server."""
    await write("emails", f"Email to {address}: {content}")


async def log_service_event(config: Config, event: str) -> None:
    """Write `event` to the channel `service_log`, after the name that `config` holds."""
    await write("service_log", f"[{config.service_name}] {event}")
