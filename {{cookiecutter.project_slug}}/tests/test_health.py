"""Liveness, readiness, and errors that nobody foresaw."""

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }} import sink


def test_live(client: TestClient) -> None:
    response = client.get("/health/live")

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_ready(client: TestClient) -> None:
    response = client.get("/health/ready")

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_not_ready_while_records_cannot_be_written(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("/secret/path is full")

    monkeypatch.setattr(sink, "check", fail)
    response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json() == {"detail": "Records cannot be written"}


def test_unforeseen_errors_tell_the_client_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(sink, "check", fail)
    browser = TestClient(client.app, raise_server_exceptions=False)
    response = browser.get("/health/ready", headers={"X-Request-ID": "4711"})

    assert response.status_code == 500
    assert response.json() == {"detail": "Internal Server Error"}
    assert response.headers["X-Request-ID"] == "4711"
