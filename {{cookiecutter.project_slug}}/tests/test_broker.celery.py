"""Tasks on their way to a worker, and the schedule."""

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery.exceptions import Reject
from pydantic import ValidationError

from {{ cookiecutter.package_name }} import logs, tasks
from {{ cookiecutter.package_name }}.broker import PREFIX, app, redis


def test_task_travels_as_json_from_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "task_always_eager", False)
    token = logs.request_id.set("4711")
    config = tasks.Config(service_name="Other")
    tasks.log_service_event.delay(config, event="started")
    logs.request_id.reset(token)
    with ThreadPoolExecutor() as pool:
        pool.submit(tasks.write_log.delay, "hello").result()

    hello, started = map(json.loads, redis.lrange(f"{PREFIX}celery", 0, -1))
    assert json.loads(base64.b64decode(hello["body"]))[:2] == [["hello"], {}]
    arguments = [{"service_name": "Other"}], {"event": "started"}
    assert json.loads(base64.b64decode(started["body"]))[:2] == [*arguments]
    assert started["headers"]["trace_headers"] == {"request_id": "4711"}


def test_model_is_validated_in_the_task() -> None:
    with pytest.raises(ValidationError, match="service_name"):
        app.tasks[tasks.log_service_event.name]({}, "started")


def test_heartbeat_runs_as_it_is_scheduled(records: Callable[[str], list[str]]) -> None:
    entry = app.conf.beat_schedule["heartbeat"]
    app.tasks[entry["task"]].apply_async(entry["args"], **entry["options"])

    assert entry["schedule"] == entry["options"]["expires"] == 60
    assert records("service_log") == ["[TestService] heartbeat"]


@pytest.mark.usefixtures("redis_down")
def test_retry_that_redis_does_not_take_is_returned_to_the_queue() -> None:
    task: Any = tasks.write_log
    task.push_request(args=("hello",), called_directly=False)

    with pytest.raises(Reject) as rejection:
        task.retry(exc=OSError())
    task.pop_request()

    assert "requeue=True" in repr(rejection.value)


@pytest.mark.usefixtures("redis_down")
def test_failed_task_that_redis_does_not_take_is_returned_to_the_queue() -> None:
    task: Any = tasks.write_log

    with pytest.raises(Reject) as rejection:
        task.on_failure(OSError(), "the-id", ("hello",), {}, None)

    assert "requeue=True" in repr(rejection.value)


CONNECT = f"""
from ssl import CERT_REQUIRED
from {tasks.__package__}.broker import app
assert app.conf.broker_use_ssl["ssl_cert_reqs"] == CERT_REQUIRED
app.connection_for_write().default_channel
"""


def test_connection_to_rediss_is_encrypted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", CONNECT],
            env=os.environ | {"REDIS_URL": f"rediss://:password@127.0.0.1:{port}/0"},
        ) as process:
            connection, _ = server.accept()
            with connection:
                greeting = connection.recv(3)
            process.kill()

    assert greeting == b"\x16\x03\x01"  # of TLS
