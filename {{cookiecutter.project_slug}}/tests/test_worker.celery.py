"""What becomes of tasks."""

import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgi_correlation_id import correlation_id
from celery.exceptions import Reject
from celery.signals import (
    before_task_publish,
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_process_shutdown,
)
from clients import break_broker
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError
from redis import Redis, RedisError

from {{ cookiecutter.package_name }} import logs, sink, tracing, worker
from {{ cookiecutter.package_name }}.settings import settings

Records = Callable[[str], list[str]]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is sent to the queue `failed`."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(
        worker.app,
        "send_task",
        lambda name, args, _kwargs, **options: sent.append({"name": name, "args": args} | options),
    )
    return sent


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The channels that were to be written, on a sink that takes no line; retries do not wait."""
    channels: list[str] = []

    def refuse(channel: str, _line: str) -> None:
        channels.append(channel)
        raise RuntimeError("It failed")

    monkeypatch.setattr(sink, "write", refuse)
    monkeypatch.setitem(worker.app.conf, "task_eager_propagates", False)
    return channels


def test_failing_task_is_retried_and_kept(
    client: TestClient, attempts: list[str], kept: list[dict[str, Any]]
) -> None:
    client.post("/log/", params={"message": "hello"})

    assert attempts == ["log"] * 4
    assert [(task["args"], task["queue"]) for task in kept] == [(("hello",), "failed")]


def test_retry_that_redis_does_not_take_is_handed_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_broker(monkeypatch)
    worker.write_log.push_request(
        id="the-id", args=("hello",), called_directly=False, is_eager=False, retries=0
    )

    with pytest.raises(Reject) as rejection:
        worker.write_log.retry(exc=OSError())
    worker.write_log.pop_request()

    assert re.match("reject requeue=True: .*No room left", repr(rejection.value))


def test_task_that_cannot_be_kept_is_handed_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    break_broker(monkeypatch)

    with pytest.raises(Reject) as rejection:
        worker.write_log.on_failure(OSError(), "the-id", ("hello",), {}, None)

    assert repr(rejection.value) == "reject requeue=True: No room left"


def test_second_task_does_not_run_if_the_first_fails(
    client: TestClient, attempts: list[str], kept: list[dict[str, Any]]
) -> None:
    with pytest.raises(RuntimeError, match="It failed"):
        client.post("/complex-task/")

    assert set(attempts) == {"task_log"}
    assert [task["name"] for task in kept] == [worker.write_log.name]


def test_what_follows_is_kept_with_a_task(kept: list[dict[str, Any]]) -> None:
    worker.write_log.push_request(id="the-id", chain=["what follows"])
    worker.write_log.on_failure(OSError(), "the-id", ("hello",), {}, None)
    worker.write_log.pop_request()

    assert [task["chain"] for task in kept] == [["what follows"]]


def test_state_is_validated_in_the_task() -> None:
    with pytest.raises(ValidationError, match="service_name"):
        worker.log_service_event.run({}, "started")


def test_heartbeat_can_be_run_as_it_is_scheduled(records: Records) -> None:
    entry = worker.app.conf.beat_schedule["heartbeat"]

    worker.app.tasks[entry["task"]].apply(entry["args"], throw=True)

    assert records("service_log") == ["[TestService] heartbeat"]


def test_worker_logs_the_start_of_tasks(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.post("/log/", params={"message": "hello"})

    assert re.search(rf"Task {worker.write_log.name}\[\S+\] started", caplog.text)


def test_worker_logs_as_the_service_does(monkeypatch: pytest.MonkeyPatch) -> None:
    configured: list[bool] = []
    monkeypatch.setattr(logs, "configure", lambda: configured.append(True))
    setup_logging.send(sender=None)

    assert configured == [True]


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE"])
def test_task_belongs_to_its_request(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    headers: dict[str, Any] = {}
    token = correlation_id.set("4711")
    with trace.get_tracer("server").start_as_current_span("request"):
        before_task_publish.send(sender=None, headers=headers)
    correlation_id.reset(token)

    worker.write_log.push_request(id="the-id", **headers)
    task_prerun.send(sender=None, task=worker.write_log, task_id="the-id")
    meanwhile = correlation_id.get()
    task_postrun.send(sender=None, task=worker.write_log, task_id="the-id", state=state)
    worker.write_log.pop_request()

    assert (meanwhile, correlation_id.get()) == ("4711", None)
    request, task = exporter.get_finished_spans()
    assert task.parent
    assert request.context
    assert task.parent.span_id == request.context.span_id
    assert task.status.is_ok == (state == "SUCCESS")


def test_worker_is_patient_and_sends_its_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(tracing, "configure", lambda: called.append("configure"))
    monkeypatch.setattr(tracing, "flush", lambda: called.append("flush"))
    monkeypatch.setattr(worker.app, "conf", worker.app.conf.copy())
    celeryd_init.send(sender=None, instance=None, conf=None, options={})
    worker_process_shutdown.send(sender=None)

    assert worker.app.conf.broker_transport_options["socket_timeout"] == 10
    assert called == ["configure", "flush"]


def test_worker_refuses_to_start_where_it_cannot_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(sink, "check", fail)
    with pytest.raises(SystemExit):
        celeryd_init.send(sender=None, instance=None, conf=None, options={})

    assert "No space left on device" in capsys.readouterr().err


def test_what_goes_to_rediss_is_encrypted(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        script = f"""
from ssl import CERT_REQUIRED
from {worker.__name__} import app
assert app.conf.broker_use_ssl["ssl_cert_reqs"] == CERT_REQUIRED
app.connection_for_write().default_channel
"""
        port = server.getsockname()[1]
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=os.environ | {"REDIS_URL": f"rediss://:password@127.0.0.1:{port}/0"},
        )
        try:
            connection, _ = server.accept()
            with connection:
                greeting = connection.recv(3)
        finally:
            process.kill()
            process.wait()

    assert greeting == b"\x16\x03\x01"  # of TLS


def test_round_trip(tmp_path: Path) -> None:
    """Redis and a worker in earnest, if there is a Redis."""
    redis = Redis.from_url(str(settings.redis_url), socket_connect_timeout=1)
    try:
        redis.ping()
    except RedisError:
        if "REDIS_URL" in os.environ:
            raise
        pytest.skip(f"no Redis answers at {settings.redis_url}")
    queue = f"test-{uuid.uuid4()}"
    script = f"""
from {worker.__name__} import app, write_log
write_log.apply_async(["hello"], queue={queue!r})
app.start(["worker", "--pool=solo", "--queues={queue}", "--without-mingle", "--without-gossip"])
"""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", script],
        cwd=tmp_path,  # where there is no `.env` that could name this Redis
        env=os.environ
        | {
            "REDIS_URL": str(settings.redis_url),
            "LOG_LEVEL": "INFO",
{% if cookiecutter.sink == "file" %}
            "LOG_DIR": str(tmp_path),
{% endif %}
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    said = ""
    try:
        while "succeeded" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
    finally:
        process.terminate()  # not `kill`: it may still have to strike off the task
        process.communicate()
        for key in redis.scan_iter(f"*{queue}*"):
            redis.delete(key)
