"""The contract of a generated service, seen from outside, under a real service."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import Installed, variants
from serving import Service, refused_start, serve, wait_for


@pytest.fixture
def service(installed: Installed, tmp_path: Path) -> Iterator[Service]:
    with serve(installed, tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def quiet(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all requests that leave nothing behind."""
    with serve(installed, tmp_path_factory.mktemp("quiet")) as service:
        yield service


def test_examples(service: Service) -> None:
    replies = [
        service.post("/log/?message=hello"),
        service.post("/send-notification/ada@example.com"),
        service.post("/complex-task/"),
        service.post("/service-event/?event=started"),
    ]

    assert [reply.status for reply in replies] == [200] * 4
    assert [reply.body["message"] for reply in replies] == [
        "Log task has been scheduled",
        "Notification scheduled for ada@example.com",
        "Complex task scheduled",
        "Service event logged",
    ]
    service.expect("log", "hello")
    service.expect("task_log", "Task started")
    service.expect(
        "emails",
        "Email to ada@example.com: This is your notification content.",
        "Email to user@example.com: Your task is complete!",
    )
    service.expect("service_log", "[MyService] started")


def test_settings_are_followed(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, SERVICE_NAME="Ünï 🚀", OPERATOR_EMAIL="ops@example.com") as service:
        service.post("/service-event/?event=x")
        service.post("/complex-task/")

        service.expect("service_log", "[Ünï 🚀] x")
        service.expect("emails", "Email to ops@example.com: Your task is complete!")


def test_health(quiet: Service) -> None:
    for path in ("/health/live", "/health/ready"):
        reply = quiet.get(path)
        assert (reply.status, reply.body) == (200, {"status": "ok"})


def test_one_line_stays_one_line(service: Service) -> None:
    messages = ["x", "x" * 1000, "🚀" * 1000, "Grüße \"quoted\" 'twice' \\ {} %s"]
    for message in messages:
        assert service.post(f"/log/?message={quote(message)}").status == 200
        service.post(f"/service-event/?event={quote(message)}")

    service.expect("log", *messages)
    service.expect("service_log", *(f"[MyService] {message}" for message in messages))


def test_refused_requests_say_why(quiet: Service) -> None:
    bad_lines = ["", "x" * 1001, "two\r\nlines", *"\n\r\t\0\x0b\x0c\x1b\x1c\x1d\x1e\x1f\x7f\x80\x85\x9f\u2028\u2029"]
    no_addresses = ["nobody", "a@b", "Ada <ada@example.com>", "ada@example.com\n", " ada@example.com", "a@b.de,c@d.de"]
    refused = [
        ("message", "/log/"),
        ("event", "/service-event/"),
        *(("message", f"/log/?message={quote(line)}") for line in bad_lines),
        *(("event", f"/service-event/?event={quote(line)}") for line in bad_lines),
        *(("email", f"/send-notification/{quote(address)}") for address in no_addresses),
    ]

    for field, path in refused:
        reply = quiet.post(path)
        assert reply.status == 422, path
        (fault,) = reply.body["detail"]
        assert fault["loc"][-1] == field, path
        assert fault["msg"], path
    assert [quiet.records(channel) for channel in ("log", "service_log", "emails")] == [[], [], []]


def test_errors_are_json(quiet: Service) -> None:
    assert quiet.get("/nowhere").body == {"detail": "Not Found"}
    assert quiet.get("/log/").body == {"detail": "Method Not Allowed"}


def test_lines_of_many_processes_neither_tear_nor_merge(installed: Installed, tmp_path: Path) -> None:
    messages = [f"{number}-{'🚀' * 900}" for number in range(200)]
    with serve(installed, tmp_path, "--workers=2", workers=2) as service:
        with ThreadPoolExecutor(max_workers=16) as pool:
            statuses = list(pool.map(lambda text: service.post(f"/log/?message={quote(text)}").status, messages))

        assert statuses == [200] * len(messages)
        wait_for(lambda: len(service.records("log")) >= len(messages), "every line")
        assert sorted(service.records("log")) == sorted(messages)


@pytest.mark.parametrize("installed", variants(engines=["background"]), indirect=True)
def test_terminated_server_finishes_what_it_accepted(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        for number in range(50):
            service.post(f"/log/?message={number}")

    assert service.records("log") == [str(number) for number in range(50)]


@pytest.mark.parametrize(("variable", "value"), [("OPERATOR_EMAIL", "nobody"), ("SERVICE_NAME", "x" * 81)])
def test_bad_setting_stops_the_start(installed: Installed, tmp_path: Path, variable: str, value: str) -> None:
    status, said = refused_start(installed, tmp_path, **{variable: value})

    assert status != 0
    assert said.startswith(f"Cannot start: {variable}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("installed", variants(["file"], ["background"]), indirect=True)
def test_bad_setting_stops_several_processes(installed: Installed, tmp_path: Path) -> None:
    _, said = refused_start(installed, tmp_path, "--workers=2", OPERATOR_EMAIL="nobody")

    assert "Cannot start: OPERATOR_EMAIL: " in said
    assert "Traceback" not in said


of_files = pytest.mark.parametrize("installed", variants(["file"]), indirect=True)
of_stdout = pytest.mark.parametrize("installed", variants(["stdout"]), indirect=True)


@of_files
def test_unwritable_log_dir_stops_the_start(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    status, said = refused_start(installed, tmp_path, LOG_DIR=str(tmp_path / "occupied" / "logs"))

    assert status != 0
    assert "LOG_DIR" in said
    assert "Traceback" not in said


@of_files
def test_readiness_follows_log_dir(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        # A worker that is still starting would refuse to.
        service.post("/log/?message=before")
        service.expect("log", "before")
        for file in service.log_dir.iterdir():
            file.unlink()
        service.log_dir.rmdir()
        service.log_dir.touch()
        reply = service.get("/health/ready")
        assert (reply.status, reply.body) == (503, {"detail": "Records cannot be written"})
        assert service.get("/health/live").status == 200

        service.log_dir.unlink()
        assert service.get("/health/ready").status == 200
        service.post("/log/?message=back")
        service.expect("log", "back")


@of_stdout
def test_standard_output_carries_records_alone(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        service.post("/log/?message=hello")
        service.get("/nowhere")
        service.expect("log", "hello")

    (line,) = [line for process in service.processes for line in process.output]
    record = json.loads(line)
    assert record == {"time": record["time"], "channel": "log", "line": "hello"}
    time = datetime.fromisoformat(record["time"])
    assert time.utcoffset() == timedelta(0)
    assert datetime.now(UTC) - time < timedelta(minutes=1)
    assert "GET /nowhere" in service.server.said()
