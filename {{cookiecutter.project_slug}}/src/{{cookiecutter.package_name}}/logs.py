"""How the service logs: on standard error, each line with the id of the request that it is about.

A line is a JSON object, unless standard error is a terminal.
"""

import logging
import logging.config
import re
import sys

from pythonjsonlogger.core import RESERVED_ATTRS

from .settings import settings

FIELDS = {
    "levelname": "level",
    "name": "logger",
    "correlation_id": "request_id",
    "message": "message",
}
{% if cookiecutter.engine == "celery" %}
# Not for those who read logs: uvicorn's colours, and what Celery knows of a task, arguments included.
OMITTED = [*RESERVED_ATTRS, "color_message", "data"]
{% else %}
# Not for those who read logs: uvicorn's colours.
OMITTED = [*RESERVED_ATTRS, "color_message"]
{% endif %}


def configure() -> None:
    """Give the lines of the application, its server and its workers one format and one way out."""
    terminal = sys.stderr.isatty()
    logging.captureWarnings(True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {
                "request_id": {
                    "()": "asgi_correlation_id.CorrelationIdFilter",
                    "default_value": "-" if terminal else None,
                }
            },
            "formatters": {
                "text": {
                    "format": "%(asctime)s %(levelname)s %(name)s [%(correlation_id)s] %(message)s"
                },
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "fmt": list(FIELDS),
                    "rename_fields": FIELDS,
                    "reserved_attrs": OMITTED,
                    "timestamp": "time",
                },
            },
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "filters": ["request_id"],
                    "formatter": "text" if terminal else "json",
                    "level": settings.log_level,  # also of loggers that have a level of their own
                }
            },
            "root": {"handlers": ["stderr"], "level": settings.log_level},
        }
    )
    # Without handlers, uvicorn's go the same way. Above, they would lose what its options say.
    for logger in map(logging.getLogger, ("uvicorn", "uvicorn.access")):
        if logger.handlers:  # else it is switched off
            logger.handlers.clear()
            logger.propagate = True


def is_request_id(text: str) -> bool:
    """Whether an `X-Request-ID` that a client has sent can be kept: it ends up in logs and headers."""
    return re.fullmatch(r"[A-Za-z0-9+/=_.:@-]{1,128}", text) is not None
