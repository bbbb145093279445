"""Liveness and readiness, for load balancers and orchestrators."""

import logging

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, HTTPException

from . import {{ "broker, " if cookiecutter.engine != "background" }}sink
from .models import Health, Problem

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/health", tags=["health"])
THREADS = CapacityLimiter(4)  # for checks alone, so that slow endpoints never hold them up


@router.get("/live", summary="Is the process alive?")
async def live() -> Health:
    """Answers as long as the process serves requests."""
    return Health()


@router.get(
    "/ready",
    summary="Can the service do its work?",
    responses={503: {"model": Problem, "description": "Background tasks cannot do their work"}},
)
async def ready() -> Health:
    """Answers 200 while tasks can be scheduled and can write their records."""
    await to_thread.run_sync(_check, limiter=THREADS)
    return Health()


def _check() -> None:
    try:
        sink.check()
    except OSError as error:
        raise _not_ready("Records cannot be written", error) from error
{% if cookiecutter.engine != "background" %}
    try:
        broker.check()
    except broker.BrokerError as error:
        raise _not_ready("Redis cannot take tasks", error) from error
{% endif %}


def _not_ready(reason: str, error: Exception) -> HTTPException:
    # The error may hold paths and addresses, which are for the log alone.
    logger.warning("Not ready: %s", error)
    return HTTPException(503, detail=reason)
