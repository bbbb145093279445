"""The service's log, and the ids of requests in it."""

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

Configure = Callable[..., StringIO]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Sends the log to a stream, which it returns."""
    with monkeypatch.context() as patch:

        def configure(*, terminal: bool = False) -> StringIO:
            stderr = StringIO()
            patch.setattr(stderr, "isatty", lambda: terminal)
            patch.setattr(sys, "stderr", stderr)
            logs.configure()
            return stderr

        yield configure
    Config("")  # undoes the options of uvicorn
    logs.configure()


def log_failure() -> None:
    """Log an error with its traceback."""
    try:
        raise OSError("No space left\non device")
    except OSError:
        logging.getLogger("uvicorn.error").exception("It failed", extra={"color_message": "red"})


def test_line_is_a_json_object(configure: Configure) -> None:
    stderr = configure()
    log_failure()

    (line,) = stderr.getvalue().splitlines()
    record = json.loads(line)
    assert record.keys() == {"time", "level", "logger", "request_id", "message", "exc_info"}
    assert (record["level"], record["logger"]) == ("ERROR", "uvicorn.error")
    assert (record["request_id"], record["message"]) == (None, "It failed")
    assert "No space left\non device" in record["exc_info"]


def test_terminal_gets_text(configure: Configure) -> None:
    stderr = configure(terminal=True)
    log_failure()

    assert "ERROR uvicorn.error [-] It failed\nTraceback" in stderr.getvalue()


def test_text_is_not_forged(configure: Configure) -> None:
    stderr = configure(terminal=True)
    try:
        raise OSError("\x1b[2K")
    except OSError:
        logging.getLogger("service").exception("one\ntwo\x85three\u2028four")

    lines = stderr.getvalue().splitlines()
    assert lines[0].endswith(r" ERROR service [-] one\ntwo\x85three\u2028four")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == r"OSError: \x1b[2K"


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        ("/log/?message=secret", "/log/"),
        ("/send-notification/ada%40example.com", "/send-notification/***"),
        ("/send-notification/a/b%40example.com?x=y", "/send-notification/***"),
        ("/ada%40example.com/x", "/***"),
    ],
)
def test_arguments_of_requests_are_not_logged(
    configure: Configure, target: str, logged: str
) -> None:
    stderr = configure()
    access = ('%s - "%s %s HTTP/%s" %d', "127.0.0.1:5000", "POST", target, "1.1", 200)
    logging.getLogger("uvicorn.access").info(*access)
    logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" 403', "127.0.0.1:5000", target)

    assert [json.loads(line)["message"] for line in stderr.getvalue().splitlines()] == [
        f'127.0.0.1:5000 - "POST {logged} HTTP/1.1" 200',
        f'127.0.0.1:5000 - "WebSocket {logged}" 403',
    ]


@pytest.mark.parametrize(
    ("level", "options", "logged"),
    [
        ("DEBUG", {}, ["Ready", "Started", "GET /"]),
        ("INFO", {}, ["Started", "GET /"]),
        ("WARNING", {}, []),
        ("INFO", {"access_log": False}, ["Started"]),
        ("INFO", {"log_level": "warning"}, []),
    ],
)
def test_lower_severities_are_left_out(
    level: str,
    options: dict[str, Any],
    logged: list[str],
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Config("", **options)  # configures uvicorn's loggers
    with monkeypatch.context() as patch:
        patch.setattr(settings, "log_level", level)
        stderr = configure()
    logging.getLogger("service").debug("Ready")
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.access").info("GET /")

    lines = stderr.getvalue().splitlines()
    assert [json.loads(line)["message"] for line in lines] == logged


def test_request_id_is_in_what_a_task_logs(
    client: TestClient, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = configure()

    {{ "async " if cookiecutter.engine == "background" }}def log(_channel: str, line: str) -> None:
        logging.getLogger("task").info(line)

    monkeypatch.setattr(sink, "write", log)
    client.post("/complex-task/", headers={"X-Request-ID": "4711"})
    logging.getLogger("afterwards").info("It is done")

    records = [json.loads(line) for line in stderr.getvalue().splitlines()]
    ids = [record["request_id"] for record in records if record["logger"] == "task"]
    assert ids == ["4711", "4711"]
    assert records[-1]["request_id"] is None
