"""Tasks that fail, tasks that wait, and tasks that a stop ends."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from typing import Any
from unittest.mock import AsyncMock, Mock, call

import anyio
import pytest
from anyio.from_thread import BlockingPortal
from fastapi.testclient import TestClient
from httpx2 import post

from {{ cookiecutter.package_name }} import runner, shutdown, sink

SIGNALS = [signal.SIGINT, signal.SIGTERM]
DELAYS = [0, 0.5, 1, 2, 4, 8, 16, 30]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    """Stands in for the wait before a retry."""
    wait = AsyncMock(return_value=False)
    monkeypatch.setattr(shutdown, "requested_within", wait)
    return wait


@pytest.mark.usefixtures("wait")
@pytest.mark.parametrize(
    ("path", "channels"),
    [
        ("/log/?message=hello", ["log", "log"]),
        ("/send-notification/ada@example.com", ["emails", "emails"]),
        ("/complex-task/", ["task_log", "task_log", "emails"]),
        ("/service-event/?event=started", ["service_log", "service_log"]),
    ],
)
def test_every_task_is_retried_before_the_next(
    path: str, channels: list[str], client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = AsyncMock(side_effect=[OSError(), None, None])
    monkeypatch.setattr(sink, "write", write)
    client.post(path)

    assert [attempt.args[0] for attempt in write.await_args_list] == channels


def test_task_that_fails_for_good_stops_the_next(
    client: TestClient,
    wait: AsyncMock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write = AsyncMock(side_effect=[*[OSError()] * 9, None])
    monkeypatch.setattr(sink, "write", write)
    failed = client.post("/complex-task/")
    other = client.post("/log/", params={"message": "other"})

    assert [failed.status_code, other.status_code] == [200, 200]
    assert [attempt.args[0] for attempt in write.await_args_list] == ["task_log"] * 9 + ["log"]
    assert wait.await_args_list == [call(delay) for delay in DELAYS]
    logged = [record for record in caplog.records if record.name == runner.__name__]
    assert logged[-1].getMessage() == "Task write_log is given up after attempt 9"
    assert [bool(record.exc_info) for record in logged] == [True] + [False] * 9


@pytest.mark.parametrize(
    ("options", "errors", "delays", "tracebacks"),
    [
        ({}, [ConnectionError()] * 9, DELAYS, 1),
        ({}, [TimeoutError(), KeyError()], [0], 2),
        ({}, [TypeError()], [], 1),
        ({"retry_on": KeyError}, [KeyError()] * 9, DELAYS, 1),
        ({"retry_on": KeyError}, [OSError()], [], 1),
        ({"retry_on": (KeyError, OSError), "delays": [3, 7]}, [OSError()] * 3, [3, 7], 1),
    ],
)
def test_options_name_errors_and_delays(
    options: dict[str, Any],
    errors: list[Exception],
    delays: list[float],
    tracebacks: int,
    wait: AsyncMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = iter(errors)

    @runner.reliable(**options)
    def task() -> None:
        raise next(attempts)

    with pytest.raises(runner.TaskFailed):
        anyio.run(task)

    assert wait.await_args_list == [call(delay) for delay in delays]
    assert sum(bool(record.exc_info) for record in caplog.records) == tracebacks


@pytest.fixture
def portal(client: TestClient) -> BlockingPortal:
    """Calls functions in the event loop of the service."""
    assert client.portal
    return client.portal


def test_slow_tasks_leave_threads_to_endpoints(client: TestClient, portal: BlockingPortal) -> None:
    end = threading.Event()

    @runner.reliable()
    def slow_task() -> None:
        end.wait(5)

    tasks = [portal.start_task_soon(slow_task) for _ in range(200)]
    response = client.get("/health/ready")

    assert response.status_code == 200
    assert not any(task.done() for task in tasks)
    end.set()
    for task in tasks:
        task.result()


def test_stop_ends_the_wait_for_a_retry(
    portal: BlockingPortal, caplog: pytest.LogCaptureFixture
) -> None:
    @runner.reliable(delays=[60])
    async def task() -> None:
        raise OSError

    running = portal.start_task_soon(task)
    portal.call(anyio.wait_all_tasks_blocked)
    portal.call(shutdown.requested.set)
    with pytest.raises(runner.TaskFailed):
        running.result(timeout=5)

    assert caplog.messages[-1] == "Task task is given up after attempt 1"


@pytest.mark.parametrize("error", [None, OSError()])
def test_task_that_is_cancelled_is_named(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    @runner.reliable(delays=[60])
    async def task() -> None:
        if error:
            raise error  # and then waits for a retry
        await asyncio.sleep(60)

    async def cancel() -> None:
        running = asyncio.create_task(task())
        await anyio.wait_all_tasks_blocked()
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())

    assert caplog.messages[-1] == "Task task was not done when the server stopped"


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_reaches_tasks_and_the_server(number: signal.Signals) -> None:
    server_handler = Mock()
    handlers = {each: signal.signal(each, server_handler) for each in SIGNALS}

    async def stop() -> bool:
        shutdown.watch()
        signal.raise_signal(number)
        return await shutdown.requested_within(5)

    assert asyncio.run(stop())
    server_handler.assert_called_once()
    for each, handler in handlers.items():
        signal.signal(each, handler)


SERVER = f"""
import uvicorn
from {sink.__package__} import main, sink
async def fail(*_):
    raise OSError("The disk is full")
sink.write = fail
uvicorn.run(main.app, fd=%d)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot ask a process to stop")
def test_server_stops_while_a_task_is_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", SERVER % listener.fileno()],
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            post(f"http://127.0.0.1:{listener.getsockname()[1]}/log/?message=hello", timeout=30)
            assert server.stderr
            assert any("Task write_log failed" in line for line in server.stderr)
            server.terminate()
            _, log = server.communicate(timeout=20)  # all retries take a minute
        finally:
            server.kill()

    assert "Task write_log is given up after attempt" in log
