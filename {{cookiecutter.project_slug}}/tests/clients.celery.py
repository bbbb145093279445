"""The client of the tests: its requests return when their tasks are done."""

from typing import NoReturn

import pytest
from fakeredis import FakeRedis, FakeServer
from fastapi.testclient import TestClient as Client

from {{ cookiecutter.package_name }} import worker

__all__ = ["Client", "break_broker"]

server = FakeServer()
worker.redis = FakeRedis(server=server)
worker.app.conf.update(
    broker_url="memory://",
    broker_transport="memory",
    task_always_eager=True,
    task_eager_propagates=True,
)


def break_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tasks go to a broker that takes none."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise worker.BrokerError("No room left")

    monkeypatch.setattr(server, "connected", False)
    monkeypatch.setitem(worker.app.conf, "task_always_eager", False)
    monkeypatch.setattr("kombu.transport.memory.Channel._put", refuse)
