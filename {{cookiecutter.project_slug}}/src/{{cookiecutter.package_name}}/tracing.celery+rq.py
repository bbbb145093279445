"""Connects a task with its request: the request's id for the log, and OpenTelemetry's trace.

FastAPI makes the spans of requests, this module those of tasks. The same variables enable both.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from .logs import request_id


def configure() -> None:
    """Export a worker's spans, if the environment asks for it."""
    enabled = os.getenv("FASTAPI_OTEL_AUTO_CONFIGURE", "").lower() == "true"
    endpoint = os.getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.getenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    if not (enabled and endpoint) or os.getenv("OTEL_TRACES_EXPORTER") == "none":
        return
    # These take a while to import.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def flush() -> None:
    """Export the spans that wait, if the collector takes them within a second."""
    provider = trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):
        provider.force_flush(timeout_millis=1000)


def inject() -> dict[str, str]:
    """Return headers that connect a task with the current request."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    if current := request_id.get():
        headers["request_id"] = current
    return headers


@contextmanager
def task_span(name: str, headers: Mapping[str, str]) -> Iterator[Span]:
    """Open the span of a task, and log with the id of the request that sent `headers`."""
    token = request_id.set(headers.get("request_id"))
    parent = propagate.extract(headers)
    try:
        tracer = trace.get_tracer(__name__)
        with tracer.start_as_current_span(name, parent, SpanKind.CONSUMER) as span:
            yield span
    finally:
        request_id.reset(token)


def mark_failed(span: Span) -> None:
    """Give a span the status of a failure."""
    span.set_status(StatusCode.ERROR)
