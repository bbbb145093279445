"""The trace of a request, which goes on in its tasks."""

from unittest.mock import Mock

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from {{ cookiecutter.package_name }} import logs, tracing

AUTO = "FASTAPI_OTEL_AUTO_CONFIGURE"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
EXPORTER = "OTEL_TRACES_EXPORTER"
URL = "http://127.0.0.1:4318"


def test_task_is_part_of_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)

    token = logs.request_id.set("4711")
    with trace.get_tracer("server").start_as_current_span("request"):
        headers = tracing.inject()
    logs.request_id.reset(token)
    with tracing.task_span("task", headers) as span:
        tracing.mark_failed(span)
        request_id = logs.request_id.get()

    assert (request_id, logs.request_id.get()) == ("4711", None)
    request, task = exporter.get_finished_spans()
    assert task.parent
    assert request.context
    assert task.parent.span_id == request.context.span_id
    assert [request.status.is_ok, task.status.is_ok] == [True, False]


@pytest.mark.parametrize(
    ("variables", "enabled"),
    [
        ({}, False),
        ({AUTO: "true"}, False),
        ({ENDPOINT: URL}, False),
        ({AUTO: "true", ENDPOINT: URL}, True),
        ({AUTO: "true", TRACES: URL}, True),
        ({AUTO: "true", ENDPOINT: URL, EXPORTER: "none"}, False),
    ],
)
def test_variables_enable_the_export(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], enabled: bool
) -> None:
    set_provider = Mock()
    monkeypatch.setattr(trace, "set_tracer_provider", set_provider)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracing.configure()

    assert set_provider.called == enabled
    for call in set_provider.call_args_list:
        call.args[0].shutdown()


def test_spans_are_exported_when_a_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing.flush()  # without a provider, it does nothing
    provider = Mock()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    tracing.flush()

    provider.force_flush.assert_called_once()
