"""The work itself: plain functions that know nothing of requests, nor of what runs them.

A worker may run a task twice: when a process dies in the middle of one, another begins it anew. A
task of your own should come to no harm then, for instance by asking first whether its work is done.
"""

from pydantic import BaseModel, validate_call

from . import sink
from .models import Channel


class Config(BaseModel):
    """State that is handed to a task along with its arguments."""

    service_name: str


def write_log(message: str, channel: Channel = "log") -> None:
    """Write `message` to `channel`. Raises OSError if that fails, as all tasks here do."""
    sink.write(channel, message)


def send_email(address: str, content: str) -> None:
    """Send `content` to `address`: the channel `emails` stands in for a mail server."""
    sink.write("emails", f"Email to {address}: {content}")


# State travels to the worker as JSON, and becomes a Config again only if it is valid.
@validate_call
def log_service_event(config: Config, event: str) -> None:
    """Write `event` to the channel `service_log`, after the name that `config` holds."""
    sink.write("service_log", f"[{config.service_name}] {event}")
