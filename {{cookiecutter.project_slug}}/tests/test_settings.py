"""What is read from the environment, and how the start is refused."""

import errno
import os
import re
from pathlib import Path
from typing import NoReturn

import pytest

from {{ cookiecutter.package_name }}.settings import Settings, load_settings

PROJECT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_defaults() -> None:
    assert load_settings().operator_email == "user@example.com"


def test_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "SERVICE_NAME=filed\nOPERATOR_EMAIL=filed@example.com\nUNRELATED=1\n"
    (tmp_path / ".env").write_text(lines, encoding="utf-8")
    monkeypatch.setenv("SERVICE_NAME", "set")

    settings = load_settings()

    assert settings.service_name == "set"
    assert settings.operator_email == "filed@example.com"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_NAME", ""),
        ("SERVICE_NAME", "x" * 81),
        ("SERVICE_NAME", "two\nlines"),
        ("OPERATOR_EMAIL", "nobody"),
        ("LOG_LEVEL", "LOUD"),
{% if cookiecutter.sink == "file" %}
        ("LOG_DIR", ""),
{% endif %}
{% if cookiecutter.engine != "background" %}
        ("REDIS_URL", "localhost"),
        ("HEARTBEAT_INTERVAL", "0"),
{% endif %}
    ],
)
def test_bad_value_refuses_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as exit_info:
        load_settings()

    assert exit_info.value.code == 3
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert name in message


def test_every_bad_value_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVICE_NAME", "")
    monkeypatch.setenv("OPERATOR_EMAIL", "nobody")

    with pytest.raises(SystemExit):
        load_settings()

    message = capsys.readouterr().err
    assert "SERVICE_NAME: " in message
    assert "OPERATOR_EMAIL: " in message


def test_file_that_cannot_be_read_refuses_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_bytes(b"SERVICE_NAME=\xe9\n")

    with pytest.raises(SystemExit):
        load_settings()

    assert ".env is not UTF-8" in capsys.readouterr().err


def test_file_that_may_not_be_read_refuses_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / ".env").touch()
    monkeypatch.setattr("builtins.open", refuse)

    with pytest.raises(SystemExit):
        load_settings()

    assert ".env cannot be read: Permission denied" in capsys.readouterr().err


def test_readme_lists_every_setting() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*) \| (.*) \|$", readme, re.MULTILINE)
    # Markdown has a backslash before what would mean something else.
    listed = [(name, re.sub(r"\\(.)|`", r"\1", default), text) for name, default, text in rows]

    assert listed == [
        (name.upper(), str(field.default).strip(), field.description)
        for name, field in Settings.model_fields.items()
    ]


def test_example_lists_every_setting() -> None:
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")

    listed = re.findall(r"^# ([A-Z_]+)=", example, re.MULTILINE)
    assert listed == [name.upper() for name in Settings.model_fields]
