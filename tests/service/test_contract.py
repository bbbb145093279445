"""The contract of each engine with each sink: requests, responses and records of a real service."""

import http.client
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from conftest import Install, variants
from serving import CHANNELS, Service, wait_for

EXAMPLES = [
    ("/log/?message=hello", "Log task has been scheduled", {"log": "hello"}),
    (
        "/send-notification/ada@example.com",
        "Notification scheduled for ada@example.com",
        {"emails": "Email to ada@example.com: This is your notification content."},
    ),
    (
        "/complex-task/",
        "Complex task scheduled",
        {"task_log": "Task started", "emails": "Email to user@example.com: Your task is complete!"},
    ),
    ("/service-event/?event=started", "Service event logged", {"service_log": "[MyService] started"}),
]
LARGEST_BODY = 65_536

to_files = pytest.mark.parametrize("installed", variants(["file"]), indirect=True)
to_stdout = pytest.mark.parametrize("installed", variants(["stdout"]), indirect=True)


def expect_nothing_scheduled(service: Service) -> None:
    """Fail if anything but this function's own request has been scheduled."""
    service.post("/log/?message=last")
    service.expect("log", "last")
    wait_for(service.is_idle, "other tasks")
    assert [service.records(channel) for channel in CHANNELS] == [["last"], [], [], []]


@pytest.mark.parametrize(("path", "message", "records"), EXAMPLES, ids=[path for path, _, _ in EXAMPLES])
def test_example(service: Service, path: str, message: str, records: dict[str, str]) -> None:
    reply = service.post(path)

    assert (reply.status, reply.body) == (200, {"message": message})
    assert reply.headers["X-Request-ID"]
    for channel in records:
        service.expect(channel, records[channel])
    assert [channel for channel in CHANNELS if service.records(channel)] == [c for c in CHANNELS if c in records]


@to_stdout
def test_second_task_of_a_request_runs_after_the_first(service: Service) -> None:
    for _ in range(10):
        service.post("/complex-task/")
    wait_for(lambda: len(service.records("emails")) == 10, "every task")

    written = [json.loads(line)["channel"] for line in service.processes[-1].output[-20:]]
    for end in range(20):
        assert written[:end].count("emails") <= written[:end].count("task_log")


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health(service: Service, path: str) -> None:
    reply = service.get(path)

    assert (reply.status, reply.body) == (200, {"status": "ok"})


def test_index_leads_to_the_documentation(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.request("GET", "/")
    response = connection.getresponse()
    connection.close()

    assert 300 <= response.status < 400
    assert response.headers["Location"].lstrip("/") == "docs"


def test_one_line_stays_one_line(service: Service) -> None:
    messages = ["x", "x" * 1000, "🚀" * 1000, "Grüße \"quoted\" 'twice' \\ {} %s", " ", "\u200b", "\u3000", "\ufffd"]
    for message in messages:
        assert service.post(f"/log/?message={quote(message)}").status == 200
        assert service.post(f"/service-event/?event={quote(message)}").status == 200

    service.expect("log", *messages)
    service.expect("service_log", *(f"[MyService] {message}" for message in messages))


CONTROL = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
SEPARATORS = ["\u2028", "\u2029"]
BIDIRECTIONAL = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]
BAD_LINES = ["", "x" * 1001, "two\r\nlines", *(f"a{sign}b" for sign in [*CONTROL, *SEPARATORS, *BIDIRECTIONAL])]
BAD_ADDRESSES = ["nobody", "a@b", "Ada <ada@example.com>", "ada@example.com\n", " ada@example.com", "a@b.de,c@d.de"]
REFUSED = {
    "message": ["/log/", *(f"/log/?message={quote(line)}" for line in BAD_LINES)],
    "event": ["/service-event/", *(f"/service-event/?event={quote(line)}" for line in BAD_LINES)],
    "email": [f"/send-notification/{quote(address)}" for address in BAD_ADDRESSES],
}


@pytest.mark.parametrize("field", REFUSED)
def test_refused_requests_say_why(service: Service, field: str) -> None:
    for path in REFUSED[field]:
        reply = service.post(path)
        assert reply.status == 422, path
        (fault,) = reply.body["detail"]
        assert fault["loc"][-1] == field, path
        assert fault["msg"], path
        assert reply.headers["X-Request-ID"], path

    expect_nothing_scheduled(service)


@pytest.mark.parametrize(
    "path", ["/log/?message=%FF%FE", "/service-event/?event=%C3%28", "/send-notification/%ED%A0%80@b.de"]
)
def test_text_that_is_not_utf_8_is_refused(service: Service, path: str) -> None:
    reply = service.post(path)
    assert reply.status == 422
    (fault,) = reply.body["detail"]
    assert fault["msg"] == "must be UTF-8"

    expect_nothing_scheduled(service)


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_large_body_is_refused(service: Service, chunked: bool) -> None:
    body = b"x" * (LARGEST_BODY + 1)
    for path, _, _ in EXAMPLES:
        reply = service.post(path, body=iter([body[:40_000], body[40_000:]]) if chunked else body)
        assert (reply.status, reply.body) == (413, {"detail": "Content Too Large"}), path
        assert reply.headers["X-Request-ID"]

    expect_nothing_scheduled(service)


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_body_of_64_kib_is_accepted(service: Service, chunked: bool) -> None:
    body = b"x" * LARGEST_BODY

    assert service.post("/log/?message=hello", body=iter([body]) if chunked else body).status == 200
    service.expect("log", "hello")


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [("GET", "/nowhere", 404, "Not Found"), ("GET", "/log/", 405, "Method Not Allowed")],
)
def test_errors_are_json(service: Service, method: str, path: str, status: int, detail: str) -> None:
    reply = service.get(path) if method == "GET" else service.post(path)

    assert (reply.status, reply.body) == (status, {"detail": detail})
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["X-Request-ID"]


def test_request_id_of_the_client_is_kept(service: Service) -> None:
    for request_id in ("4711", "A-z+/=_.:@", "x" * 128):
        assert service.get("/health/live", {"X-Request-ID": request_id}).headers["X-Request-ID"] == request_id


def test_request_id_is_made(service: Service) -> None:
    sent = [None, "", "x" * 129, "two words", "tab\there", "<script>", "é"]
    got = [
        service.get("/health/live", {"X-Request-ID": request_id} if request_id is not None else None).headers
        for request_id in sent
    ]

    made = [headers["X-Request-ID"] for headers in got]
    assert len(set(made)) == len(made)
    assert not set(made) & set(sent)


@to_files
def test_records_are_closed_to_others(service: Service) -> None:
    os.umask(umask := os.umask(0))
    for path, _, _ in EXAMPLES:
        service.post(path)
    for channel in CHANNELS:
        wait_for(lambda channel=channel: service.records(channel), f"a record in {channel}")

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in service.records_dir.iterdir()}
    assert modes == {f"{channel}.txt": 0o660 & ~umask for channel in CHANNELS}
    service.expect("emails", *EXAMPLES[1][2].values(), EXAMPLES[2][2]["emails"])


@to_stdout
def test_standard_output_carries_records_alone(service: Service) -> None:
    service.get("/nowhere")
    service.post("/log/?message=hello")
    service.expect("log", "hello")

    writer = service.processes[-1]
    for process in service.processes:
        assert process is writer or process.output == []
    records = [json.loads(line) for line in writer.output]
    assert all(record.keys() == {"time", "channel", "line"} for record in records)
    time = datetime.fromisoformat(records[-1]["time"])
    assert time.utcoffset() == timedelta(0)
    assert datetime.now(UTC) - time < timedelta(minutes=1)


def test_clients_see_the_same_service_whatever_was_chosen(install: Install) -> None:
    document = "import json; from myservice.main import app; print(json.dumps(app.openapi()))"
    documents = [
        json.loads(install(*variant.values[0]).run("python", "-c", document, RECORDS_DIR="unused"))
        for variant in variants()
    ]

    assert list(documents[0]["paths"]) == [
        "/log/",
        "/send-notification/{email}",
        "/complex-task/",
        "/service-event/",
        "/health/live",
        "/health/ready",
    ]
    for document in documents[1:]:
        assert document == documents[0]
