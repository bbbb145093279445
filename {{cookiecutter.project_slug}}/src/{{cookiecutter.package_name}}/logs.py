"""Logging to standard error: JSON lines, or text on a terminal, each with the id of its request."""

import logging
import sys
from contextvars import ContextVar

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from .settings import settings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is served, or whose task runs."""


def configure() -> None:
    """Give the application, its server and its workers one format and one handler."""
    handler = logging.StreamHandler()
    handler.setLevel(settings.log_level)  # for loggers that have a level of their own, too
    handler.setFormatter(_text_formatter() if sys.stderr.isatty() else _json_formatter())
    handler.addFilter(_add_request_id)
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    logging.captureWarnings(True)
    # uvicorn's loggers keep the levels that its options set, but use the handler above.
    for logger in map(logging.getLogger, ("uvicorn", "uvicorn.access")):
        if logger.handlers:  # none means that an option has switched it off
            logger.handlers.clear()
            logger.propagate = True


def _text_formatter() -> logging.Formatter:
    return logging.Formatter(
        "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s",
        defaults={"request_id": "-"},
    )


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        ["levelname", "name", "request_id", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
{% if cookiecutter.engine == "celery" %}
        # Without uvicorn's colours and Celery's data about a task, which holds its arguments.
        reserved_attrs=[*RESERVED_ATTRS, "color_message", "data"],
{% else %}
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # without uvicorn's colours
{% endif %}
        timestamp="time",
    )


def _add_request_id(record: logging.LogRecord) -> bool:
    if value := request_id.get():
        record.request_id = value
    return True
