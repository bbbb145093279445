"""What clients get, and what the tasks write."""

import re
from collections.abc import Callable, Iterable

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.package_name }} import sink

Records = Callable[[str], list[str]]

ONE_LINERS = ["x", "x" * 1000, "Grüße, 世界 🚀", "\"quoted\" 'twice' \\ {} %s", " "]
NOT_ONE_LINE = ["", "x" * 1001, "\x1b[31m", *"\0\t\n\r\v\f\x1c\x7f\x85\u2028\u2029"]
TOO_LONG = "a@" + ".".join(["b" * 60] * 5)
NO_ADDRESSES = ["ada", "ada@", "@b.de", "ada@b", "a da@b.de", "Ada <ada@b.de>", TOO_LONG]


@pytest.fixture
def full_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that takes no line."""

    def refuse(_channel: str, _lines: Iterable[str]) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(sink, "write", refuse)


@pytest.mark.parametrize("message", ONE_LINERS)
def test_log(client: TestClient, records: Records, message: str) -> None:
    response = client.post("/log/", params={"message": message})

    assert response.status_code == 200
    assert response.json() == {"message": "Log task has been scheduled"}
    assert records("log") == [message]


def test_send_notification(client: TestClient, records: Records) -> None:
    response = client.post("/send-notification/Ada+x@Example.com")

    assert response.status_code == 200
    assert response.json() == {"message": "Notification scheduled for Ada+x@Example.com"}
    assert records("emails") == ["Email to Ada+x@Example.com: This is your notification content."]


def test_complex_task(client: TestClient, records: Records) -> None:
    response = client.post("/complex-task/")

    assert response.status_code == 200
    assert response.json() == {"message": "Complex task scheduled"}
    assert records("task_log") == ["Task started"]
    assert records("emails") == ["Email to operator@example.com: Your task is complete!"]


def test_complex_task_runs_in_order(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    channels: list[str] = []
    monkeypatch.setattr(sink, "write", lambda channel, _lines: channels.append(channel))

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


@pytest.mark.usefixtures("full_sink")
def test_write_that_fails_raises_in_its_task(client: TestClient) -> None:
    with pytest.raises(OSError, match="No space left"):
        client.post("/log/", params={"message": "lost"})


@pytest.mark.usefixtures("full_sink")
def test_client_is_answered_before_the_task_fails(client: TestClient) -> None:
    client = TestClient(client.app, raise_server_exceptions=False)

    assert client.post("/log/", params={"message": "lost"}).status_code == 200


def test_docs_teach(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    for path, operations in paths.items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert operation["tags"], path
            for parameter in operation.get("parameters", []):
                assert parameter["schema"]["examples"], path
