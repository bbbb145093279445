"""The client of the tests: its requests return when their tasks are done."""

from typing import Any

import pytest
from fakeredis import FakeRedis, FakeServer
from fastapi.testclient import TestClient
from httpx2 import Response
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from {{ cookiecutter.package_name }} import worker

server = FakeServer()
worker.queue.connection = FakeRedis(server=server)


class WorkerInProcess(worker.TracingWorker):
    """Runs tasks in the process of the tests."""

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Run a task, without a fork."""
        assert self.execution
        self.perform_job(job, queue, self.execution)

    def monitor_work_horse(self, *_: object) -> None:
        """There is no other process to wait for."""

    def _install_signal_handlers(self) -> None:
        """Signals are for pytest."""


def work() -> None:
    """Run what is in the queue, and what that brings with it."""
    WorkerInProcess(
        [worker.queue],
        connection=worker.queue.connection,
        serializer=JSONSerializer,
        exception_handlers=[worker.cancel_dependents],
    ).work(burst=True)


def break_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tasks go to a broker that takes none."""
    monkeypatch.setattr(server, "connected", False)


class Client(TestClient):
    """Has a worker run what each request has enqueued."""

    def send(self, *args: Any, **kwargs: Any) -> Response:
        """Send a request, do its work, and return its response."""
        response = super().send(*args, **kwargs)
        work()
        return response
