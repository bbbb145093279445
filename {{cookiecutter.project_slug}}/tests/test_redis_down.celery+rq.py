"""The service while Redis cannot be reached."""

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }}.main import app

pytestmark = pytest.mark.usefixtures("redis_down")


def test_service_starts_and_is_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(app) as client:
        assert client.get("/health/live").status_code == 200
        response = client.get("/health/ready")

    assert response.status_code == 503
    assert response.json() == {"detail": "Redis cannot take tasks"}
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
def test_request_is_refused_if_its_tasks_cannot_be_scheduled(path: str) -> None:
    response = TestClient(app).post(path)

    assert response.status_code == 503
    assert response.json() == {"detail": "The work could not be scheduled; try again later"}
    assert int(response.headers["Retry-After"]) > 0
