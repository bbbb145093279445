"""The application as a whole."""

import importlib
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }} import logs, main, sink


def test_start_is_refused_where_records_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "configure", Mock())
    monkeypatch.setattr(sink, "check", Mock(side_effect=OSError("No space left on device")))

    with pytest.raises(SystemExit) as exit_info:
        importlib.reload(main)

    assert exit_info.value.code == 3
    assert capsys.readouterr().err == "Cannot start: No space left on device\n"


def test_every_endpoint_is_documented(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    for path, operations in paths.items():
        for method, operation in operations.items():
            assert "description" in operation, f"{method} {path} needs a docstring"
    for path in ("/log/", "/send-notification/{email}", "/complex-task/", "/service-event/"):
        operation = paths[path]["post"]
        assert operation["responses"]["503"]["headers"].keys() == {"Retry-After"}
        for parameter in operation.get("parameters", []):
            assert "examples" in parameter["schema"]


def test_unforeseen_error_tells_the_client_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "check", Mock(side_effect=RuntimeError("/secret/path")))
    browser = TestClient(client.app, raise_server_exceptions=False)
    response = browser.get("/health/ready", headers={"X-Request-ID": "4711"})

    assert response.status_code == 500
    assert response.json() == {"detail": "Internal Server Error"}
    assert response.headers["X-Request-ID"] == "4711"
