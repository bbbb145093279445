"""The work itself: functions that know nothing of requests, nor of what runs them.

They are `async def`, so that FastAPI runs them on the event loop, where work must not take long or
block. Work that does belongs in a plain `def`, for which FastAPI takes a thread.
"""

import asyncio

from pydantic import BaseModel

from . import sink
from .models import Channel


class Config(BaseModel):
    """State that is handed to a task along with its arguments."""

    service_name: str


async def write(channel: Channel, line: str) -> None:
    """Return once the operating system has `line`; raises OSError if it does not take it.

    The system takes a line in microseconds, a tenth of what a thread costs. Only where the sink would
    have to wait, a thread waits in place of the event loop.
    """
    try:
        sink.write(channel, line, wait=False)
    except BlockingIOError:
        await asyncio.to_thread(sink.write, channel, line)


async def write_log(message: str, channel: Channel = "log") -> None:
    """Write `message` to `channel`. Raises OSError if that fails, as all tasks here do."""
    await write(channel, message)


async def send_email(address: str, content: str) -> None:
    """Send `content` to `address`: the channel `emails` stands in for a mail server."""
    await write("emails", f"Email to {address}: {content}")


async def log_service_event(config: Config, event: str) -> None:
    """Write `event` to the channel `service_log`, after the name that `config` holds."""
    await write("service_log", f"[{config.service_name}] {event}")
