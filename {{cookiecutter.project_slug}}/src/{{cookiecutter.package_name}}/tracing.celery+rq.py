"""What a task takes along from its request, through Redis: the id for the log, and the trace.

OpenTelemetry's spans of requests are FastAPI's own; those of tasks are made here. Both are switched on
by the same variables.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from asgi_correlation_id import correlation_id
from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode


def configure() -> None:
    """Have a worker send the spans of its tasks, if that is switched on."""
    wanted = os.getenv("FASTAPI_OTEL_AUTO_CONFIGURE", "").lower() == "true"
    endpoint = os.getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.getenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    if not (wanted and endpoint) or os.getenv("OTEL_TRACES_EXPORTER") == "none":
        return
    # They take a while to import.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush() -> None:
    """Send what has not been sent yet, if a collector takes it within a second."""
    provider = trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):
        provider.force_flush(timeout_millis=1000)


def carrier() -> dict[str, str]:
    """What a task takes along from the request, or the task, that hands it over."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    if request_id := correlation_id.get():
        headers["request_id"] = request_id
    return headers


@contextmanager
def continued(name: str, carrier: Mapping[str, str]) -> Iterator[Span]:
    """Log and trace what is done meanwhile as the task `name` of the request that `carrier` is from."""
    token = correlation_id.set(carrier.get("request_id"))
    parent = propagate.extract(carrier)
    try:
        with trace.get_tracer(__name__).start_as_current_span(
            name, parent, SpanKind.CONSUMER
        ) as span:
            yield span
    finally:
        correlation_id.reset(token)


def fail(span: Span) -> None:
    """Mark a task as failed."""
    span.set_status(StatusCode.ERROR)
