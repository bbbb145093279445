"""The settings, and the refusal of bad ones."""

import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from {{ cookiecutter.package_name }}.settings import Settings, load_settings

PROJECT = Path(__file__).parents[1]


BAD_VALUES = {
    "SERVICE_NAME": "two\nlines",
    "OPERATOR_EMAIL": "nobody",
{% if cookiecutter.sink == "file" %}
    "RECORDS_DIR": "",
{% endif %}
    "LOG_LEVEL": "LOUD",
{% if cookiecutter.engine != "background" %}
    "REDIS_URL": "localhost",
    "HEARTBEAT_INTERVAL": "0",
{% endif %}
}


def test_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "SERVICE_NAME=filed\nOPERATOR_EMAIL=filed@example.com\nUNRELATED=1\n"
    Path(".env").write_text(lines, encoding="utf-8")
    monkeypatch.setenv("SERVICE_NAME", "set")

    settings = load_settings()

    assert settings.service_name == "set"
    assert settings.operator_email == "filed@example.com"
    assert settings.log_level == "INFO"


@pytest.mark.parametrize("service_name", ["", "x" * 81, "two\nlines"])
def test_bad_values_stop_the_start(
    service_name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (BAD_VALUES | {"SERVICE_NAME": service_name}).items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as exit_info:
        load_settings()

    assert exit_info.value.code == 3
    message = capsys.readouterr().err
    assert re.fullmatch("Cannot start: .*\n", message)
    assert re.findall("([A-Z_]+): ", message) == list(BAD_VALUES)


{% if cookiecutter.engine != "background" %}
@pytest.mark.parametrize(
    "url",
    ["http://h", "redis://h/abc", "redis://h/0/1", "redis://h?socket_timeout=abc", "redis://h#1"],
)
def test_url_that_redis_clients_would_misread_stops_the_start(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    with pytest.raises(SystemExit):
        load_settings()

    assert re.fullmatch("Cannot start: REDIS_URL: .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("url", ["redis://h", "redis://h/", "redis://:secret@h:1/12", "rediss://h"])
def test_url_of_redis_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    assert load_settings().redis_url.host == "h"


{% endif %}
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('LOG_LEVEL=INFO\n\nSERVICE_NAME="My service\nOPERATOR_EMAIL=a@b.de\n', ".env: line 3 "),
        ("SERVICE_NAME=a\0b\n", "SERVICE_NAME: "),
{% if cookiecutter.sink == "file" %}
        ("RECORDS_DIR=a\0b\n", "RECORDS_DIR: "),
{% endif %}
    ],
)
def test_file_with_a_bad_line_stops_the_start(
    text: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_text(text, encoding="utf-8")

    with pytest.raises(SystemExit):
        load_settings()

    message = capsys.readouterr().err
    assert message.startswith(f"Cannot start: {fault}")
    assert message.count("\n") == 1


def test_file_that_is_not_text_stops_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_bytes(b"SERVICE_NAME=\xe9\n")

    with pytest.raises(SystemExit):
        load_settings()

    assert ".env is not UTF-8" in capsys.readouterr().err


def test_file_that_cannot_be_read_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").touch()
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr("builtins.open", Mock(side_effect=denied))

    with pytest.raises(SystemExit):
        load_settings()

    assert ".env cannot be read: Permission denied" in capsys.readouterr().err


REQUEST = """
from conftest import TestClient, app
with TestClient(app) as client:
    client.get("/health/live")
"""


def test_settings_of_the_developer_do_not_reach_the_tests() -> None:
    Path(".env").write_text("LOG_LEVEL=LOUD\n", encoding="utf-8")

    with socket.create_server(("127.0.0.1", 0)) as collector:
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", REQUEST],
            env=os.environ
            | BAD_VALUES
            | {
                "PYTHONPATH": str(PROJECT / "tests"),
                "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.getsockname()[1]}",
            },
            check=True,
        )
        collector.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody sends spans
            collector.accept()


def test_readme_and_example_list_every_setting() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*) \| (.*) \|$", readme, re.MULTILINE)
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    names = re.findall(r"^# ([A-Z_]+)=", example, re.MULTILINE)

    # In Markdown, a backslash comes before a character that would mean something else.
    assert [(name, re.sub(r"\\(.)|`", r"\1", default), text) for name, default, text in rows] == [
        (name.upper(), str(field.default).strip(), field.description)
        for name, field in Settings.model_fields.items()
    ]
    assert names == [name.upper() for name in Settings.model_fields]
