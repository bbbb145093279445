"""The service while Redis does not answer."""

import pytest
from clients import break_broker
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }}.main import app


def test_service_starts_and_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    break_broker(monkeypatch)
    with TestClient(app) as client:
        assert client.get("/health/live").status_code == 200
        response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json() == {"detail": "Redis cannot be reached"}
    assert "Redis cannot be reached: " in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/log/?message=hello",
        "/send-notification/ada@example.com",
        "/complex-task/",
        "/service-event/?event=started",
    ],
)
def test_work_that_cannot_be_handed_over_is_refused(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_broker(monkeypatch)
    response = TestClient(app).post(path)

    assert response.status_code == 503
    assert response.json() == {"detail": "The work could not be handed over; try again later"}
    assert int(response.headers["Retry-After"]) > 0
