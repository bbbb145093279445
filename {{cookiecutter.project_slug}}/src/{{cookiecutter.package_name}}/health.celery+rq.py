"""What a load balancer or an orchestrator asks: is the process alive, and can it do its work?"""

import logging

from fastapi import APIRouter, HTTPException, status

from . import sink, worker
from .models import Health, Problem

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", summary="Is the process alive?")
async def live() -> Health:
    """Answers as long as the process serves requests at all."""
    return Health()


@router.get(
    "/ready",
    summary="Can the service do its work?",
    responses={503: {"model": Problem, "description": "Background tasks cannot do their work"}},
)
def ready() -> Health:
    """Answers 200 while tasks can be handed over and can write their records."""
    try:
        sink.check()
    except OSError as error:
        logger.warning("Not ready: %s", error)
        raise HTTPException(
            status.HTTP_503_SERVICE_UNAVAILABLE, detail="Records cannot be written"
        ) from error
    try:
        worker.connect()
    except worker.BrokerError as error:
        logger.warning("Not ready: %s", error)
        raise HTTPException(
            status.HTTP_503_SERVICE_UNAVAILABLE, detail="Redis cannot be reached"
        ) from error
    return Health()
