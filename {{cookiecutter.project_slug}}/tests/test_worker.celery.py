"""What becomes of tasks."""

import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgi_correlation_id import correlation_id
from celery.exceptions import Reject
from celery.signals import before_task_publish, setup_logging
from clients import break_broker
from fastapi.testclient import TestClient
from pydantic import ValidationError
from redis import Redis, RedisError

from {{ cookiecutter.package_name }} import logs, sink, worker
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
        raise OSError("No space left on device")

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
    worker.write_log.push_request(id="the-id", called_directly=False, is_eager=False, retries=0)

    with pytest.raises(Reject) as rejection:
        worker.write_log.retry(exc=OSError())
    worker.write_log.pop_request()

    assert "requeue=True" in repr(rejection.value)


def test_second_task_does_not_run_if_the_first_fails(
    client: TestClient, attempts: list[str], kept: list[dict[str, Any]]
) -> None:
    with pytest.raises(OSError, match="No space left"):
        client.post("/complex-task/")

    assert set(attempts) == {"task_log"}
    assert [task["name"] for task in kept] == [worker.write_log.name]


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


def test_task_takes_along_what_connects_it_with_its_request() -> None:
    headers: dict[str, Any] = {}
    correlation_id.set("4711")
    before_task_publish.send(sender=None, headers=headers)

    assert headers["carrier"]["request_id"] == "4711"


def test_worker_refuses_to_start_where_it_cannot_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(sink, "check", fail)
    with pytest.raises(SystemExit):
        worker.prepare_worker()

    assert "No space left on device" in capsys.readouterr().err


def test_round_trip(tmp_path: Path) -> None:
    """Redis and a worker in earnest, if there is a Redis."""
    try:
        Redis.from_url(str(settings.redis_url), socket_connect_timeout=1).ping()
    except RedisError:
        pytest.skip(f"no Redis answers at {settings.redis_url}")
    queue = f"test-{uuid.uuid4()}"
    script = f"""
from {worker.__name__} import app, write_log
write_log.apply_async(["hello"], queue={queue!r})
app.start(["worker", "--pool=solo", "--concurrency=1", "--queues={queue}"])
"""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        assert any("succeeded" in line for line in process.stderr)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
