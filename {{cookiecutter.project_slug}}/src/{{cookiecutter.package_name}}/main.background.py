"""The application: any ASGI server runs `app`."""

from importlib.metadata import metadata

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from . import health, routes, runner, sink
from .settings import refuse_to_start, settings

try:
    sink.check()
except OSError as error:
    refuse_to_start(f"records cannot be written: {error}")
{% if cookiecutter.sink == "stdout" %}
sink.move_access_log_to_stderr()
{% endif %}

package = metadata("{{ cookiecutter.project_slug }}")
app = FastAPI(
    title=settings.service_name,
    summary=package["Summary"],
    version=package["Version"],
    max_body_size=65_536,  # bytes
)
app.add_middleware(runner.KeepConnections)
app.include_router(routes.router)
app.include_router(health.router)


@app.exception_handler(Exception)
async def internal_error(_request: Request, _error: Exception) -> JSONResponse:
    """Answer in JSON, as other errors do. What happened is for the server's log."""
    return JSONResponse({"detail": "Internal Server Error"}, status_code=500)
