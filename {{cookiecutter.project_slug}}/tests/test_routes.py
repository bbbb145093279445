"""The four examples: the responses, and the records that their tasks write."""

import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

Records = Callable[[str], list[str]]

ONE_LINERS = ["x", "x" * 1000, "Grüße, 世界 🚀 \ufffd", "\"quoted\" 'twice' \\ {} %s", " "]
# The first and the last of each range that is not allowed.
NOT_ONE_LINE = ["", "x" * 1001, "two\nlines", *"\x00\x1f\x7f\x9f\u2028\u202e\u2066\u2069"]
NO_ADDRESSES = ["ada", "ada@", "@b.de", "ada@b", "a da@b.de", "a%0A@b.de", "Ada <ada@b.de>"]
TOO_LONG = "a@" + ".".join(["b" * 60] * 5)


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


@pytest.mark.parametrize("event", ONE_LINERS)
def test_service_event(client: TestClient, records: Records, event: str) -> None:
    response = client.post("/service-event/", params={"event": event})

    assert response.status_code == 200
    assert response.json() == {"message": "Service event logged"}
    assert records("service_log") == [f"[TestService] {event}"]


@pytest.mark.parametrize(
    ("path", "parameter", "channel"),
    [("/log/", "message", "log"), ("/service-event/", "event", "service_log")],
)
@pytest.mark.parametrize("text", NOT_ONE_LINE)
def test_text_that_is_not_one_line_is_refused(
    client: TestClient, records: Records, path: str, parameter: str, channel: str, text: str
) -> None:
    response = client.post(path, params={parameter: text})

    assert response.status_code == 422
    (fault,) = response.json()["detail"]
    assert fault["loc"] == ["query", parameter]
    assert re.search("must not contain|at least 1|at most 1000", fault["msg"])
    assert records(channel) == []


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/log/?message=%FF", "query"),
        ("/service-event/?event=a%C3%28", "query"),
        ("/send-notification/%FF@b.de", "path"),
    ],
)
def test_text_that_is_not_utf_8_is_refused(client: TestClient, path: str, place: str) -> None:
    response = client.post(path)

    assert response.status_code == 422
    fault = {"type": "string_unicode", "loc": [place], "msg": "must be UTF-8"}
    assert response.json() == {"detail": [fault]}


@pytest.mark.parametrize("address", [*NO_ADDRESSES, TOO_LONG])
def test_text_that_is_no_address_is_refused(
    client: TestClient, records: Records, address: str
) -> None:
    response = client.post(f"/send-notification/{address}")

    assert response.status_code == 422
    (fault,) = response.json()["detail"]
    assert fault["loc"] == ["path", "email"]
    assert records("emails") == []
