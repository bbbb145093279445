"""The trace of a request goes on in its tasks."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from {{ cookiecutter.package_name }} import tracing

AUTO = "FASTAPI_OTEL_AUTO_CONFIGURE"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
EXPORTER = "OTEL_TRACES_EXPORTER"
URL = "http://127.0.0.1:4318"


class Traces:
    """What is traced."""

    def __init__(self) -> None:
        """Keep spans in memory."""
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def spans(self) -> dict[str, ReadableSpan]:
        """All spans by their names."""
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    """Traces whatever is done."""
    traces = Traces()
    monkeypatch.setattr(trace, "get_tracer", traces.provider.get_tracer)
    return traces


def test_task_is_part_of_its_request(traces: Traces) -> None:
    with trace.get_tracer("server").start_as_current_span("request"):
        carrier = tracing.carrier()
    with tracing.continued("task", carrier):
        followed_by = tracing.carrier()
    with tracing.continued("next", followed_by) as span:
        tracing.fail(span)

    request, task, following = (traces.spans()[name] for name in ("request", "task", "next"))
    assert [span.parent and span.parent.span_id for span in (request, task, following)] == [
        None,
        request.context.span_id,
        task.context.span_id,
    ]
    assert request.context.trace_id == task.context.trace_id == following.context.trace_id
    assert task.status.status_code == StatusCode.UNSET
    assert following.status.status_code == StatusCode.ERROR


@pytest.mark.parametrize(
    ("variables", "providers"),
    [
        ({}, 0),
        ({AUTO: "true"}, 0),
        ({ENDPOINT: URL}, 0),
        ({AUTO: "true", ENDPOINT: URL}, 1),
        ({AUTO: "true", TRACES: URL}, 1),
        ({AUTO: "true", ENDPOINT: URL, EXPORTER: "none"}, 0),
    ],
)
def test_variables_switch_it_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], providers: int
) -> None:
    for name in (AUTO, ENDPOINT, TRACES, EXPORTER):
        monkeypatch.delenv(name, raising=False)
    configured: list[Any] = []
    monkeypatch.setattr(trace, "set_tracer_provider", configured.append)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracing.configure()

    assert len(configured) == providers
    for provider in configured:
        provider.shutdown()


def test_spans_are_sent_when_a_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing.flush()
    flushed: list[bool] = []
    provider = TracerProvider()
    monkeypatch.setattr(provider, "force_flush", lambda **_: flushed.append(True))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    tracing.flush()

    assert flushed == [True]
