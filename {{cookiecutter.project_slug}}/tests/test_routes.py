"""What clients get, and what the tasks write."""

import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }} import sink

Records = Callable[[str], list[str]]

ONE_LINERS = ["x", "x" * 1000, "Grüße, 世界 🚀", "\"quoted\" 'twice' \\ {} %s", " "]
CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
NOT_ONE_LINE = ["", "x" * 1001, "two\nlines", *CONTROLS]
TOO_LONG = "a@" + ".".join(["b" * 60] * 5)
NO_ADDRESSES = [
    "ada",
    "ada@",
    "@b.de",
    "ada@b",
    "a da@b.de",
    "a%0A@b.de",
    "Ada <ada@b.de>",
    TOO_LONG,
]


@pytest.mark.parametrize("message", ONE_LINERS)
def test_log(client: TestClient, records: Records, message: str) -> None:
    response = client.post("/log/", params={"message": message})

    assert response.status_code == 200
    assert response.json() == {"message": "Log task has been scheduled"}
    assert records("log") == [message]


@pytest.mark.parametrize("address", ["ada@example.com", "Ada+x@Example.com", "a/b@b.de"])
def test_send_notification(client: TestClient, records: Records, address: str) -> None:
    response = client.post(f"/send-notification/{address}")

    assert response.status_code == 200
    assert response.json() == {"message": f"Notification scheduled for {address}"}
    assert records("emails") == [f"Email to {address}: This is your notification content."]


def test_complex_task(client: TestClient, records: Records) -> None:
    response = client.post("/complex-task/")

    assert response.status_code == 200
    assert response.json() == {"message": "Complex task scheduled"}
    assert records("task_log") == ["Task started"]
    assert records("emails") == ["Email to operator@example.com: Your task is complete!"]


def test_complex_task_runs_in_order(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    channels: list[str] = []
    monkeypatch.setattr(sink, "write", lambda channel, _line, **_: channels.append(channel))

    client.post("/complex-task/")

    assert channels == ["task_log", "emails"]


@pytest.mark.parametrize("event", ONE_LINERS)
def test_service_event(client: TestClient, records: Records, event: str) -> None:
    response = client.post("/service-event/", params={"event": event})

    assert response.status_code == 200
    assert response.json() == {"message": "Service event logged"}
    assert records("service_log") == [f"[TestService] {event}"]


@pytest.mark.parametrize("text", NOT_ONE_LINE)
def test_log_refuses_what_is_not_one_line(client: TestClient, records: Records, text: str) -> None:
    response = client.post("/log/", params={"message": text})

    assert response.status_code == 422
    (fault,) = response.json()["detail"]
    assert fault["loc"] == ["query", "message"]
    assert re.search("must not contain|at least 1|at most 1000", fault["msg"])
    assert records("log") == []


@pytest.mark.parametrize("text", NOT_ONE_LINE)
def test_service_event_refuses_what_is_not_one_line(
    client: TestClient, records: Records, text: str
) -> None:
    response = client.post("/service-event/", params={"event": text})

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", "event"]
    assert records("service_log") == []


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_refuses_what_is_no_address(client: TestClient, records: Records, address: str) -> None:
    response = client.post(f"/send-notification/{address}")

    assert response.status_code == 422
    (fault,) = response.json()["detail"]
    assert fault["loc"] == ["path", "email"]
    assert fault["msg"]
    assert records("emails") == []


def test_parameter_missing(client: TestClient) -> None:
    response = client.post("/log/")

    assert response.status_code == 422
    assert response.json()["detail"][0]["msg"] == "Field required"


def test_refuses_large_bodies(client: TestClient, records: Records) -> None:
    large = client.post("/log/?message=refused", content=b"x" * 65_537)
    largest = client.post("/log/?message=taken", content=b"x" * 65_536)

    assert [large.status_code, largest.status_code] == [413, 200]
    assert "X-Request-ID" in large.headers
    assert records("log") == ["taken"]


def test_every_endpoint_is_documented(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    for path, operations in paths.items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert operation["tags"], path
            for parameter in operation.get("parameters", []):
                assert parameter["schema"]["examples"], path
    for path in ("/log/", "/send-notification/{email}", "/complex-task/", "/service-event/"):
        assert "Retry-After" in paths[path]["post"]["responses"]["503"]["headers"], path
