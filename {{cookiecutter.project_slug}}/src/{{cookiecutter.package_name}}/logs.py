"""Logging to standard error: JSON lines, or text on a terminal, each with the id of its request."""

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from .models import NOT_ON_A_LINE
from .settings import settings

# A path with an address, whose `@` is %40. Its first segment is kept; an address may contain a `/`.
ADDRESS = re.compile(r"^(/[^/%]*/|/).*%40.*")

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
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).addFilter(_mask_targets)
    # uvicorn's loggers keep the levels that its options set, but use the handler above.
    for logger in map(logging.getLogger, ("uvicorn", "uvicorn.access")):
        if logger.handlers:  # none means that an option has switched it off
            logger.handlers.clear()
            logger.propagate = True


class _TextFormatter(logging.Formatter):
    """Escapes what would break or forge a line; only tracebacks have several lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _escape(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(_escape, super().formatException(ei).split("\n")))


def _escape(text: str) -> str:
    return re.sub(f"[{NOT_ON_A_LINE}]", lambda sign: repr(sign[0])[1:-1], text)


def _text_formatter() -> logging.Formatter:
    return _TextFormatter(
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


def _mask_targets(record: logging.LogRecord) -> bool:
    """Remove the query of a request that uvicorn logs, and an e-mail address in its path."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            ADDRESS.sub(r"\1***", value.partition("?")[0])
            if isinstance(value, str) and value.startswith("/")
            else value
            for value in record.args
        )
    return True


def _add_request_id(record: logging.LogRecord) -> bool:
    if value := request_id.get():
        record.request_id = value
    return True
