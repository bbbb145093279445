"""Liveness and readiness."""

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
from anyio import to_thread
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


def test_readiness_does_not_wait_for_the_threads_of_endpoints(client: TestClient) -> None:
    assert client.portal
    limiter = client.portal.call(to_thread.current_default_thread_limiter)
    busy = [object() for _ in range(40)]
    for endpoint in busy:
        client.portal.call(limiter.acquire_on_behalf_of_nowait, endpoint)
    with ThreadPoolExecutor() as pool:
        response = pool.submit(client.get, "/health/ready")
        try:
            assert response.result(timeout=5).status_code == 200
        finally:
            for endpoint in busy:
                client.portal.call(limiter.release_on_behalf_of, endpoint)
