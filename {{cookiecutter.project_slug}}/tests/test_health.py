"""Liveness and readiness."""

from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }} import sink


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_all_is_well(client: TestClient, path: str) -> None:
    response = client.get(path)

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_not_ready_while_records_cannot_be_written(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "check", Mock(side_effect=OSError("/secret/path is full")))
    response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json() == {"detail": "Records cannot be written"}
