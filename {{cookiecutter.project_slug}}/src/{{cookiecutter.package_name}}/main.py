"""The application. Any ASGI server runs `app`."""

{% if cookiecutter.engine != "background" %}
import logging
{% endif %}
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import metadata

from fastapi import FastAPI, Request
{% if cookiecutter.engine != "background" %}
from fastapi.concurrency import run_in_threadpool
{% endif %}
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline

{% if cookiecutter.engine == "background" %}
from . import health, logs, middleware, pages, routes, shutdown, sink
{% else %}
from . import broker, health, logs, middleware, pages, routes, sink
{% endif %}
from .settings import abort, settings

{% if cookiecutter.engine != "background" %}
logger = logging.getLogger(__name__)

{% endif %}
logs.configure()
try:
    sink.check()
except OSError as error:
    abort(str(error))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
{% if cookiecutter.engine == "background" %}
    """Let tasks notice that the server stops."""
    shutdown.watch()
    yield
{% else %}
    """Connect to Redis before the first request."""
    try:
        # The first request would otherwise wait for this connection.
        await run_in_threadpool({{ "broker.connect" if cookiecutter.engine == "celery" else "broker.check" }})
    except broker.BrokerError as error:
        logger.warning("Redis cannot be reached: %s", error)
    yield
{% endif %}


package = metadata("{{ cookiecutter.project_slug }}")
app = FastAPIOffline(
    title=settings.service_name,
    summary=package["Summary"],
    version=package["Version"],
    lifespan=lifespan,
    docs_url=None,  # `pages` has these pages
    redoc_url=None,
)
{% if cookiecutter.engine == "background" %}
app.add_middleware(middleware.task_failure)
{% endif %}
app.add_middleware(middleware.utf_8)
app.add_middleware(middleware.body_limit)
app.add_middleware(middleware.request_id)
app.include_router(routes.router)
app.include_router(health.router)
app.include_router(pages.router)


{% if cookiecutter.engine != "background" %}
@app.exception_handler(broker.BrokerError)
async def broker_unavailable(_request: Request, error: Exception) -> JSONResponse:
    """Tell the client when to try again."""
    logger.warning("The tasks of a request were not scheduled: %s", error)
    return JSONResponse(
        {"detail": "The work could not be scheduled; try again later"},
        status_code=503,
        headers={"Retry-After": "5"},
    )


{% endif %}
@app.exception_handler(Exception)
async def internal_error(_request: Request, _error: Exception) -> JSONResponse:
    """Answer in JSON, as for other errors. The server logs the traceback."""
    return JSONResponse(
        {"detail": "Internal Server Error"},
        status_code=500,
        # This response bypasses the middleware that adds the id.
        headers={"X-Request-ID": logs.request_id.get() or ""},
    )
