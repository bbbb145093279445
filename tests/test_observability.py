"""What operators see: log lines that name their request, and traces, under a real service."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import Installed, variants
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from serving import Service, send, serve, wait_for


def logged(service: Service) -> list[dict[str, Any]]:
    """What all processes of a service have logged so far; fails if a line is no JSON object."""
    lines = [line for process in service.processes for line in process.said().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_log_lines_name_their_request(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        reply = send(f"http://127.0.0.1:{service.port}/complex-task/", headers={"X-Request-ID": "4711"})
        other = service.post("/log/?message=hello")
        service.expect("emails", "Email to user@example.com: Your task is complete!")
        service.expect("log", "hello")

    records = logged(service)
    assert all(record.keys() >= {"time", "level", "logger", "request_id", "message"} for record in records)
    assert "uvicorn.error" in {record["logger"] for record in records}
    of_request = [record["message"] for record in records if record["request_id"] == "4711"]
    assert reply.headers["X-Request-ID"] == "4711"
    assert [message for message in of_request if "POST /complex-task/" in message]
    assert {record["request_id"] for record in records} >= {None, "4711", other.headers["X-Request-ID"]}
    if installed.engine != "background":
        worked = "succeeded in" if installed.engine == "celery" else "Job OK"
        assert len([message for message in of_request if worked in message]) == 2


@pytest.mark.parametrize("installed", variants(["file"], ["background"]), indirect=True)
@pytest.mark.parametrize(
    ("options", "level", "loggers"),
    [
        ((), "INFO", {"uvicorn.error", "uvicorn.access"}),
        (("--no-access-log",), "INFO", {"uvicorn.error"}),
        (("--log-level", "warning"), "INFO", set()),
        ((), "WARNING", set()),
    ],
)
def test_log_can_be_cut_down(
    installed: Installed, tmp_path: Path, options: tuple[str, ...], level: str, loggers: set[str]
) -> None:
    with serve(installed, tmp_path, *options, LOG_LEVEL=level) as service:
        service.post("/log/?message=hello")

    assert {record["logger"] for record in logged(service)} == loggers


@pytest.mark.parametrize("installed", variants(["file"]), indirect=True)
def test_failures_name_their_request(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        service.post("/log/?message=before")
        service.expect("log", "before")
        (service.log_dir / "log.txt").unlink()
        (service.log_dir / "log.txt").mkdir()
        request_id = service.post("/log/?message=hello").headers["X-Request-ID"]
        wait_for(
            lambda: [
                record
                for record in logged(service)
                if record["request_id"] == request_id and "Is a directory" in json.dumps(record)
            ],
            "the failure to be logged",
        )
        (service.log_dir / "log.txt").rmdir()
        service.expect("log", "hello")


class Collector:
    """Takes OpenTelemetry's spans, as a collector would."""

    def __init__(self) -> None:
        """Listen."""
        collector = self
        self.spans: list[Span] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    request = ExportTraceServiceRequest.FromString(body)
                    collector.spans += [
                        span for of in request.resource_spans for scope in of.scope_spans for span in scope.spans
                    ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def named(self, name: str) -> list[Span]:
        """The spans of a name, where a background task of FastAPI's goes by its function's."""
        return [
            span
            for span in self.spans
            if name in (span.name, *(attribute.value.string_value for attribute in span.attributes))
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
    thread.join()


@pytest.mark.parametrize("installed", variants(["file"]), indirect=True)
def test_request_and_its_tasks_are_one_trace(installed: Installed, tmp_path: Path, collector: Collector) -> None:
    variables = {
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    with serve(installed, tmp_path, **variables) as service:
        service.post("/complex-task/")
        service.expect("emails", "Email to user@example.com: Your task is complete!")

    (request,) = collector.named("POST /complex-task/")
    (first,) = collector.named("myservice.tasks.write_log")
    (second,) = collector.named("myservice.tasks.send_email")
    assert request.trace_id == first.trace_id == second.trace_id
    assert first.parent_span_id
    assert second.parent_span_id
    assert first.end_time_unix_nano <= second.start_time_unix_nano
