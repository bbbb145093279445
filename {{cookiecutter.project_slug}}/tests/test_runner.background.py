"""Tasks that fail, and tasks that have to wait."""

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }} import runner, sink
from {{ cookiecutter.package_name }}.models import Channel

Records = Callable[[str], list[str]]


class FailingSink:
    """A sink that fails at first, as often as `times`."""

    def __init__(self, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it in the place of the sink."""
        self.times = times
        self.channels: list[Channel] = []
        self.write_line = sink.write
        monkeypatch.setattr(sink, "write", self.write)

    def write(self, channel: Channel, line: str, *, wait: bool = True) -> None:
        """Write a line, or fail."""
        self.channels.append(channel)
        self.times -= 1
        if self.times >= 0:
            raise RuntimeError("It failed")
        self.write_line(channel, line, wait=wait)


def test_task_that_fails_is_tried_again(
    client: TestClient,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = FailingSink(2, monkeypatch)

    assert client.post("/complex-task/").status_code == 200
    assert failing.channels == ["task_log"] * 3 + ["emails"]
    assert records("task_log") == ["Task started"]
    assert records("emails") == ["Email to operator@example.com: Your task is complete!"]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "write_log" in warning
    assert "It failed" in warning


@pytest.mark.parametrize(
    ("path", "channel"),
    [
        ("/log/?message=hello", "log"),
        ("/send-notification/ada@example.com", "emails"),
        ("/service-event/?event=started", "service_log"),
    ],
)
def test_every_task_is_tried_again(
    path: str, channel: str, client: TestClient, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    FailingSink(1, monkeypatch)
    client.post(path)

    assert len(records(channel)) == 1


def test_task_that_fails_for_good_stops_those_after_it(
    client: TestClient,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    FailingSink(3, monkeypatch)
    failed = client.post("/complex-task/")
    other = client.post("/log/", params={"message": "other"})

    assert [failed.status_code, other.status_code] == [200, 200]
    assert records("task_log") == records("emails") == []
    assert records("log") == ["other"]
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.getMessage() == "Task write_log failed for good"
    assert error.exc_info


def test_task_that_a_stop_cuts_off_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def wait() -> None:
        await asyncio.sleep(60)

    async def stop() -> None:
        task = asyncio.ensure_future(runner.reliable(wait)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop())

    assert caplog.messages == ["Task wait is lost: the server stops before it is done"]


def test_plain_function_runs_in_a_thread() -> None:
    app = FastAPI()
    threads: list[int] = []

    def task() -> None:
        threads.append(threading.get_ident())

    @app.post("/")
    async def schedule(background_tasks: BackgroundTasks) -> None:
        threads.append(threading.get_ident())
        background_tasks.add_task(runner.reliable(task))

    TestClient(app).post("/")

    assert threads[0] != threads[1]


def test_only_a_thread_waits_for_the_sink(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, int] = {}

    def write(_channel: str, line: str, *, wait: bool = True) -> None:
        if not wait:
            written["loop"] = threading.get_ident()
            raise BlockingIOError
        written[line] = threading.get_ident()

    monkeypatch.setattr(sink, "write", write)
    client.post("/log/", params={"message": "hello"})

    assert written["hello"] != written["loop"]
