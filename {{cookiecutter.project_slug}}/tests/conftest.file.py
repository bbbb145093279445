"""Gives every test the service, with its records in a folder of the test's own."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

# The service reads its settings, and checks where it writes, as soon as it is imported.
with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as environment:
    environment.setenv("LOG_DIR", folder)
    environment.setenv("LOG_LEVEL", "INFO")
    environment.setenv("OPERATOR_EMAIL", "operator@example.com")
    environment.setenv("SERVICE_NAME", "TestService")
    environment.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "false")
    from clients import Client

    from {{ cookiecutter.package_name }}.main import app
    from {{ cookiecutter.package_name }}.settings import settings


@pytest.fixture(autouse=True)
def log_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that records go to."""
    monkeypatch.setattr(settings, "log_dir", tmp_path / "logs")
    return settings.log_dir


@pytest.fixture
def records(log_dir: Path) -> Callable[[str], list[str]]:
    """Reads the lines of a channel."""

    def read(channel: str) -> list[str]:
        file = log_dir / f"{channel}.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    return read


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Sends requests; returns from each when its tasks are done."""
    with Client(app) as client:
        yield client
