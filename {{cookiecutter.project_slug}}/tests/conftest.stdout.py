"""Gives every test the service, and what it writes to standard output."""

import json
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

# The service reads its settings as soon as it is imported.
with pytest.MonkeyPatch.context() as environment:
    environment.setenv("LOG_LEVEL", "INFO")
    environment.setenv("OPERATOR_EMAIL", "operator@example.com")
    environment.setenv("SERVICE_NAME", "TestService")
    environment.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "false")
    from clients import Client

    from {{ cookiecutter.package_name }}.main import app


@pytest.fixture
def records(capfd: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """Reads the lines of a channel."""
    seen: list[dict[str, str]] = []

    def read(channel: str) -> list[str]:
        seen.extend(json.loads(line) for line in capfd.readouterr().out.splitlines())
        return [record["line"] for record in seen if record["channel"] == channel]

    return read


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Sends requests; returns from each when its tasks are done."""
    with Client(app) as client:
        yield client
