"""Gives every test the service, without the settings of the developer who runs it."""

{% if cookiecutter.engine == "background" %}
import asyncio
{% endif %}
{% if cookiecutter.sink == "stdout" %}
import json
{% endif %}
import os
import re
import tempfile
{% if cookiecutter.engine == "celery" %}
import threading
{% endif %}
from collections.abc import Callable, Iterator
from pathlib import Path
{% if cookiecutter.engine == "rq" %}
from typing import Any
{% endif %}

import pytest
{% if cookiecutter.engine == "celery" %}
from fakeredis import FakeRedis, TcpFakeServer
{% elif cookiecutter.engine == "rq" %}
from fakeredis import FakeRedis, FakeServer
{% endif %}
from fastapi.testclient import TestClient
{% if cookiecutter.engine == "rq" %}
from httpx2 import Response
from rq import SimpleWorker, Worker
from rq.serializers import JSONSerializer
{% endif %}

PROJECT = Path(__file__).parents[1]
{% if cookiecutter.engine != "background" %}
REAL_REDIS_URL = os.getenv("TEST_REDIS_URL")
{% endif %}

example = (PROJECT / ".env.example").read_text(encoding="utf-8")
settings = re.findall(r"^# (\w+)=", example, re.MULTILINE)
for name in list(os.environ):
    if name.upper() in settings or name.startswith(("OTEL_", "FASTAPI_OTEL_")):
        del os.environ[name]
{% if cookiecutter.engine == "celery" %}

server = TcpFakeServer(("127.0.0.1", 0))
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
redis = server.fake_server
{% endif %}

# The service reads its settings when it is imported.
with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.setenv("OPERATOR_EMAIL", "operator@example.com")
    patch.setenv("SERVICE_NAME", "TestService")
{% if cookiecutter.engine == "background" %}
    from {{ cookiecutter.package_name }} import shutdown
{% elif cookiecutter.engine == "celery" %}
    patch.setenv("REDIS_URL", f"redis://127.0.0.1:{server.server_address[1]}/0")
    from {{ cookiecutter.package_name }} import broker
{% else %}
    from {{ cookiecutter.package_name }} import broker, worker
{% endif %}
    from {{ cookiecutter.package_name }}.main import app
{% if cookiecutter.engine == "celery" %}

# Requests run their tasks.
broker.app.conf.update(task_always_eager=True, task_eager_propagates=True)
{% elif cookiecutter.engine == "rq" %}

redis = FakeServer()
broker.queue.connection = FakeRedis(server=redis)


def run_tasks() -> None:
    """Do the work of a worker."""
    worker.TaskWorker(
        [broker.queue.name],
        connection=broker.queue.connection,
        serializer=JSONSerializer,
        exception_handlers=[worker.cancel_dependents],
    ).work(burst=True)


class Client(TestClient):
    """Runs the tasks of each request."""

    def send(self, *args: Any, **kwargs: Any) -> Response:
        """Send a request, run its tasks, and return its response."""
        response = super().send(*args, **kwargs)
        run_tasks()
        return response
{% endif %}


@pytest.fixture(autouse=True)
def _isolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> {{ "None" if cookiecutter.engine == "background" else "Iterator[None]" }}:
    # In this folder, there is no `.env`.
    monkeypatch.chdir(tmp_path)
{% if cookiecutter.engine == "background" %}
    # An event belongs to the event loop that first waits for it.
    monkeypatch.setattr(shutdown, "requested", asyncio.Event())
{% else %}
{% if cookiecutter.engine == "celery" %}
    # A test that lets Redis fail does not concern the next one.
    monkeypatch.setattr(broker, "paused_until", 0.0)
{% elif cookiecutter.engine == "rq" %}
    # Jobs run in the process of the tests, and signals are for pytest.
    monkeypatch.setattr(Worker, "execute_job", SimpleWorker.execute_job)
    monkeypatch.setattr(Worker, "_install_signal_handlers", lambda _: None)
    monkeypatch.setattr(broker, "_refused_until", 0.0)
    # FakeRedis does not tell its version, and RQ would take tasks as from an old Redis.
    monkeypatch.setattr("rq.queue.get_version", lambda _: (7, 0, 0))
{% endif %}
    yield
    FakeRedis(server=redis).flushall()
{% endif %}
{% if cookiecutter.sink == "file" %}


@pytest.fixture
def records(tmp_path: Path) -> Callable[[str], list[str]]:
    """Reads the lines of a channel."""

    def read(channel: str) -> list[str]:
        file = tmp_path / "records" / f"{channel}.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    return read
{% else %}


@pytest.fixture
def records(capfd: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """Reads the lines of a channel."""
    seen: list[dict[str, str]] = []

    def read(channel: str) -> list[str]:
        seen.extend(json.loads(line) for line in capfd.readouterr().out.splitlines())
        return [record["line"] for record in seen if record["channel"] == channel]

    return read
{% endif %}


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Sends requests; returns from each when its tasks are done."""
    with {{ "Client" if cookiecutter.engine == "rq" else "TestClient" }}(app) as client:
        yield client
{% if cookiecutter.engine == "rq" %}


@pytest.fixture
def work() -> Callable[[], None]:
    """Runs the tasks that are in the queue."""
    return run_tasks
{% endif %}
{% if cookiecutter.engine != "background" %}


@pytest.fixture
def redis_down({{ "monkeypatch: pytest.MonkeyPatch" if cookiecutter.engine == "celery" }}) -> Iterator[None]:
    """Lets Redis close its connections."""
{% if cookiecutter.engine == "celery" %}
    monkeypatch.setitem(broker.app.conf, "task_always_eager", False)
{% endif %}
    redis.connected = False
    yield
    redis.connected = True


@pytest.fixture
def real_redis_url() -> str:
    """The URL of a Redis that is not in this process, if the environment names one."""
    return REAL_REDIS_URL or pytest.skip("TEST_REDIS_URL is not set")
{% endif %}
