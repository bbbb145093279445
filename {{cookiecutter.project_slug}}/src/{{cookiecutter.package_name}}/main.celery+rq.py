"""The application: any ASGI server runs `app`."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import metadata

from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from . import health, logs, routes, sink, worker
from .settings import refuse_to_start, settings

logger = logging.getLogger(__name__)

logs.configure()
try:
    sink.check()
except OSError as error:
    refuse_to_start(f"records cannot be written: {error}")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Connect to Redis before the first request has to. Without Redis, start all the same."""
    try:
        await run_in_threadpool(worker.connect)
    except worker.BrokerError as error:
        logger.warning("Redis cannot be reached: %s", error)
    yield


async def read_body(request: Request) -> None:
    """Refuse a body that is too large before anything is handed over, also where no endpoint reads it."""
    await request.body()


package = metadata("{{ cookiecutter.project_slug }}")
app = FastAPIOffline(
    title=settings.service_name,
    summary=package["Summary"],
    version=package["Version"],
    lifespan=lifespan,
)
# FastAPI's `max_body_size` would wrap each router and each route as well.
app.add_middleware(RequestBodyLimitMiddleware, max_body_size=65_536)  # bytes
app.add_middleware(CorrelationIdMiddleware, validator=logs.is_request_id)
app.include_router(routes.router, dependencies=[Depends(read_body)])
app.include_router(health.router)


@app.exception_handler(worker.BrokerError)
async def not_handed_over(_request: Request, error: Exception) -> JSONResponse:
    """Ask the client to come back when Redis does."""
    logger.warning("Not handed over: %s", error)
    return JSONResponse(
        {"detail": "The work could not be handed over; try again later"},
        status_code=503,
        headers={"Retry-After": "5"},
    )


@app.exception_handler(Exception)
async def internal_error(_request: Request, _error: Exception) -> JSONResponse:
    """Answer in JSON, as other errors do. What happened is for the server's log."""
    return JSONResponse(
        {"detail": "Internal Server Error"},
        status_code=500,
        # The middleware does not see this answer.
        headers={"X-Request-ID": correlation_id.get() or ""},
    )
