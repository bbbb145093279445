"""Tasks on their way to a worker, and the schedule."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest
from celery.exceptions import Reject
from pydantic import ValidationError

from {{ cookiecutter.package_name }} import broker, logs, tasks
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


@pytest.mark.parametrize("arguments", [(), ("hello", "log", "more")])
def test_wrong_arguments_are_refused_when_a_task_is_handed_over(arguments: tuple[Any, ...]) -> None:
    task: Any = tasks.write_log

    with pytest.raises(TypeError, match="argument"):
        task.delay(*arguments)


@pytest.mark.parametrize(("arguments", "requeue"), [(("hello",), True), ((), False)])
@pytest.mark.usefixtures("redis_down")
def test_only_a_retry_that_redis_does_not_take_is_returned_to_the_queue(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...], requeue: bool
) -> None:
    monkeypatch.setattr(broker, "PAUSE", 0)
    task: Any = tasks.write_log
    task.push_request(args=arguments, called_directly=False)

    with pytest.raises(Reject) as rejection:
        task.retry(exc=OSError())
    task.pop_request()

    assert f"requeue={requeue}" in repr(rejection.value)


@pytest.mark.usefixtures("redis_down")
def test_redis_that_has_failed_is_not_tried_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(broker.BrokerError):
        tasks.write_log.delay("hello")
    monkeypatch.setattr(app, "send_task", Mock())
    with pytest.raises(broker.BrokerError, match="has just failed"):
        tasks.write_log.delay("hello")
    with pytest.raises(broker.BrokerError, match="has just failed"):
        broker.check()
    monkeypatch.setattr(broker, "current_task", tasks.write_log)
    tasks.write_log.delay("hello")  # in a worker, it is

    assert 0 < broker.paused_until - time.monotonic() <= broker.PAUSE


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
