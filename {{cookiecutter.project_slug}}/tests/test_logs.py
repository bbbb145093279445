"""What the service logs, and the ids of requests."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from fastapi.testclient import TestClient
from uvicorn import Config

from {{ cookiecutter.package_name }} import logs, sink
from {{ cookiecutter.package_name }}.settings import settings

Configure = Callable[[StringIO], None]


class Terminal(StringIO):
    """Standard error, if a person reads it."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Has the log go to a place of the test's own."""
    with monkeypatch.context() as patch:

        def configure(stderr: StringIO) -> None:
            patch.setattr(sys, "stderr", stderr)
            logs.configure()

        yield configure
    Config("")  # takes back what a test has told uvicorn
    logs.configure()


def log_a_failure() -> None:
    """Log an error with its traceback."""
    try:
        raise OSError("No space left\non device")
    except OSError:
        logging.getLogger("uvicorn.error").exception("It failed", extra={"color_message": "red"})


def test_a_line_is_an_object(configure: Configure) -> None:
    configure(stderr := StringIO())
    log_a_failure()

    (line,) = stderr.getvalue().splitlines()
    record = json.loads(line)
    assert record.keys() == {"time", "level", "logger", "request_id", "message", "exc_info"}
    assert (record["level"], record["logger"]) == ("ERROR", "uvicorn.error")
    assert (record["request_id"], record["message"]) == (None, "It failed")
    assert "No space left\non device" in record["exc_info"]


def test_a_person_reads_text(configure: Configure) -> None:
    configure(stderr := Terminal())
    log_a_failure()

    assert "ERROR uvicorn.error [-] It failed\nTraceback" in stderr.getvalue()


@pytest.mark.parametrize(
    ("level", "logged"), [("DEBUG", ["DEBUG", "INFO"]), ("INFO", ["INFO"]), ("WARNING", [])]
)
def test_level_says_how_much_is_logged(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, level: str, logged: list[str]
) -> None:
    Config("")  # gives uvicorn's loggers a level of their own
    with monkeypatch.context() as patch:
        patch.setattr(settings, "log_level", level)
        configure(stderr := StringIO())
    logging.getLogger("service").debug("It is ready")
    logging.getLogger("uvicorn.error").info("Started")

    lines = stderr.getvalue().splitlines()
    assert [json.loads(line)["level"] for line in lines] == logged


@pytest.mark.parametrize(
    ("options", "logged"),
    [
        ({}, ["Started", "GET /"]),
        ({"access_log": False}, ["Started"]),
        ({"log_level": "warning"}, []),
    ],
)
def test_options_of_uvicorn_hold(
    configure: Configure, options: dict[str, Any], logged: list[str]
) -> None:
    Config("", **options)
    configure(stderr := StringIO())
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.access").info("GET /")

    lines = stderr.getvalue().splitlines()
    assert [json.loads(line)["message"] for line in lines] == logged


@pytest.mark.parametrize("request_id", ["4711", "x" * 128, "Zz09+/=_.:@-"])
def test_request_id_is_kept(client: TestClient, request_id: str) -> None:
    response = client.get("/health/live", headers={"X-Request-ID": request_id})

    assert response.headers.get_list("X-Request-ID") == [request_id]


@pytest.mark.parametrize("request_id", [None, "", "x" * 129, "two words", '"quoted"', "é".encode()])
def test_request_id_is_made(client: TestClient, request_id: str | None) -> None:
    headers = {} if request_id is None else {"X-Request-ID": request_id}
    made = [client.get("/nowhere", headers=headers).headers["X-Request-ID"] for _ in range(2)]

    assert len({*made, request_id}) == 3
    assert all(map(logs.is_request_id, made))


def test_request_id_is_in_what_a_task_logs(
    client: TestClient, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(stderr := StringIO())
    log = logging.getLogger("task").info
    monkeypatch.setattr(sink, "write", lambda _channel, line, **_: log(line))
    client.post("/complex-task/", headers={"X-Request-ID": "4711"})
    logging.getLogger("afterwards").info("It is done")

    records = [json.loads(line) for line in stderr.getvalue().splitlines()]
    ids = [record["request_id"] for record in records if record["logger"] == "task"]
    assert ids == ["4711", "4711"]
    assert records[-1]["request_id"] is None
