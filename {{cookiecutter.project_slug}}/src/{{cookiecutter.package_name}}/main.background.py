"""The application: any ASGI server runs `app`."""

from importlib.metadata import metadata

from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from fastapi import Request
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from . import health, logs, routes, runner, sink
from .settings import refuse_to_start, settings

logs.configure()
try:
    sink.check()
except OSError as error:
    refuse_to_start(f"records cannot be written: {error}")

package = metadata("{{ cookiecutter.project_slug }}")
app = FastAPIOffline(
    title=settings.service_name,
    summary=package["Summary"],
    version=package["Version"],
)
# FastAPI's `max_body_size` would wrap each router and each route as well.
app.add_middleware(RequestBodyLimitMiddleware, max_body_size=65_536)  # bytes
app.add_middleware(runner.KeepConnections)
app.add_middleware(CorrelationIdMiddleware, validator=logs.is_request_id)
app.include_router(routes.router)
app.include_router(health.router)


@app.exception_handler(Exception)
async def internal_error(_request: Request, _error: Exception) -> JSONResponse:
    """Answer in JSON, as other errors do. What happened is for the server's log."""
    return JSONResponse(
        {"detail": "Internal Server Error"},
        status_code=500,
        # The middleware does not see this answer.
        headers={"X-Request-ID": correlation_id.get() or ""},
    )
