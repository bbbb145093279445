"""Logs, readiness and traces of a real service."""

import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import Installed, variants
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from serving import START, Service, serve, wait_for


def logged(service: Service) -> list[dict[str, Any]]:
    """Return what all processes of a service have logged so far; fails if a line is not a JSON object."""
    lines = [line for process in service.processes for line in process.said().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_log_lines_name_their_request(service: Service) -> None:
    reply = service.post("/complex-task/", {"X-Request-ID": "4711"})
    other = service.post("/log/?message=hello")
    service.expect("emails", "Email to user@example.com: Your task is complete!")
    service.expect("log", "hello")

    def of_request() -> list[str]:
        return [record["message"] for record in logged(service) if record["request_id"] == "4711"]

    if service.redis:
        done = {"celery": "succeeded in", "rq": "Job OK"}[service.project.engine]
        wait_for(lambda: len([message for message in of_request() if done in message]) == 2, "the ends of both tasks")
    assert reply.headers["X-Request-ID"] == "4711"
    assert [message for message in of_request() if "POST /complex-task/" in message]
    records = logged(service)
    assert all(record.keys() >= {"time", "level", "logger", "request_id", "message"} for record in records)
    assert "uvicorn.error" in {record["logger"] for record in records}
    assert {record["request_id"] for record in records} >= {None, "4711", other.headers["X-Request-ID"]}


def test_log_tells_no_arguments(service: Service) -> None:
    service.post("/log/?message=private-text")
    service.post("/send-notification/private-name@example.com")
    service.expect("log", "private-text")
    service.expect("emails", "Email to private-name@example.com: This is your notification content.")
    wait_for(service.is_idle, "the ends of the tasks")

    messages = [record["message"] for record in logged(service)]
    assert [message for message in messages if "POST /send-notification/*** HTTP" in message]
    assert not [process.said() for process in service.processes if "private" in process.said()]


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
def test_failure_shows_in_readiness_and_log(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        # A worker that is still starting would refuse to start.
        service.post("/log/?message=before")
        service.expect("log", "before")
        shutil.rmtree(service.records_dir)
        service.records_dir.touch()
        reply = service.get("/health/ready")
        assert (reply.status, reply.body) == (503, {"detail": "Records cannot be written"})
        assert service.get("/health/live").status == 200

        request_id = service.post("/log/?message=hello").headers["X-Request-ID"]

        def failures() -> list[dict[str, Any]]:
            records = [record for record in logged(service) if record["request_id"] == request_id]
            return [record for record in records if "Not a directory" in json.dumps(record)]

        wait_for(failures, "the failure to be logged")
        assert "write_log" in json.dumps(failures())

        service.records_dir.unlink()
        assert service.get("/health/ready").status == 200
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
        """Return the spans with this name, or with an attribute that holds it, as FastAPI's spans of tasks have."""
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


@pytest.mark.faults
@pytest.mark.parametrize("installed", variants(["file"], ["celery", "rq"]), indirect=True)
def test_no_password_in_logs(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, workers=0) as service:
        assert service.redis
        service.redis.command("CONFIG", "SET", "requirepass", "hunter2")
        right, wrong = (
            {"REDIS_URL": service.redis.url.replace("//", f"//:{password}@")} for password in ("hunter2", "hunter2x")
        )
        stranger = service.start("python", "-c", START, **wrong)
        assert stranger.wait() == 0
        assert "Redis cannot be reached" in stranger.said()
        lost = service.start_worker(**wrong)
        wait_for(lambda: "password" in lost.said(), "the worker to be refused")
        lost.kill()
        worker = service.start_worker(**right)
        service.start_schedule(**right, HEARTBEAT_INTERVAL="1")
        wait_for(lambda: service.records("service_log"), "a heartbeat")
        refused = service.start("python", "-c", START, REDIS_URL="http://:hunter2@localhost")
        assert refused.wait() != 0

        assert "REDIS_URL" in refused.said()
        assert worker.said()
        for process in service.processes:
            assert "hunter2" not in process.said() + "".join(process.output)
