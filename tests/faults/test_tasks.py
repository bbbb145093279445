"""Tasks in process: many, slow and failing ones, and a stop. docs/guarantees.md has a row for each test."""

import http.client
import signal
import time
from pathlib import Path

import pytest
from conftest import Installed, variants
from loads import flood, flooded, lines_of, numbered
from serving import container_options, serve, wait_for

pytestmark = pytest.mark.faults

to_both_sinks = pytest.mark.parametrize("installed", variants(engines=["background"]), indirect=True)
to_files = pytest.mark.parametrize("installed", variants(["file"], ["background"]), indirect=True)


@to_both_sinks
def test_many_requests(installed: Installed, tmp_path: Path) -> None:
    statuses: dict[str, int] = {}
    with serve(installed, tmp_path, "--workers=2", "--no-access-log") as service:
        flood(service.port, numbered(range(100_000)), statuses)

    assert set(statuses.values()) == {200}
    assert sorted(service.records("log")) == lines_of(statuses) == sorted(map(str, range(100_000)))


@to_both_sinks
def test_server_told_to_stop(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, *container_options(installed)) as service, flooded(service) as statuses:
        wait_for(lambda: len(statuses) >= 3000, "a load")
        told = time.monotonic()
        service.server.stop()
        seconds = time.monotonic() - told

    records = service.records("log")
    assert seconds < 10  # then Docker would kill it
    assert set(lines_of(statuses)) <= set(records)
    assert sorted(map(int, records)) == sorted(set(map(int, records)))


@to_files
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_during_retries(installed: Installed, tmp_path: Path, number: signal.Signals) -> None:
    with serve(installed, tmp_path) as service:
        service.post("/complex-task/")
        service.expect("task_log", "Task started")
        obstacle = service.records_dir / "task_log.txt"
        obstacle.unlink()
        obstacle.mkdir()
        service.post("/complex-task/")
        # The next attempt is four seconds away.
        wait_for(lambda: service.server.said().count("Task write_log failed: ") == 5, "the fifth attempt")

        told = time.monotonic()
        service.server.signal(number)
        service.server.wait()
        assert time.monotonic() - told < 2
        assert "Task write_log is given up after attempt" in service.server.said()
        service.expect("emails", "Email to user@example.com: Your task is complete!")


@to_files
def test_failing_task(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        obstacle = service.records_dir / "task_log.txt"
        obstacle.unlink()
        obstacle.mkdir()
        connection = http.client.HTTPConnection("127.0.0.1", service.port)

        def post(path: str) -> int:
            connection.request("POST", path)
            response = connection.getresponse()
            response.read()
            return response.status

        assert post("/complex-task/") == 200
        start = time.monotonic()
        # On the connection of the request whose task fails.
        wait_for(
            lambda: post("/log/?message=beside") == 200 and "given up" in service.server.said(),
            "the task to be given up",
            seconds=90,
        )
        assert time.monotonic() - start > 60
        assert post("/log/?message=after") == 200
        wait_for(lambda: service.records("log")[-1] == "after", "the last line")
        connection.close()

        assert service.records("emails") == []
        said = service.server.said()
        assert said.count("Task write_log failed: ") == 9
        assert said.count("Traceback") == 1
        assert said.count("Task write_log is given up after attempt") == 1
        assert "Exception in ASGI application" not in said


SLOW_ENDPOINT = '''
import time
from fastapi import BackgroundTasks
from myservice.main import app
from myservice.runner import reliable

@reliable()
def sleep() -> None:
    time.sleep(60)

@app.get("/plain/")
def plain() -> None:
    """Run in a thread."""

@app.post("/slow/")
async def slow(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(sleep)
'''


@to_files
def test_slow_tasks_leave_endpoints_free(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_ENDPOINT)
    statuses: dict[str, int] = {}
    with serve(installed, tmp_path, app=("uvicorn", "--app-dir=.", "slow:app")) as service:
        flood(service.port, (f"/slow/?{number}" for number in range(200)), statuses, connections=200)
        replies = {path: [service.get(path) for _ in range(21)] for path in ("/health/ready", "/plain/")}
        service.server.kill()

    assert list(statuses.values()) == [200] * 200
    for path in replies:
        assert {reply.status for reply in replies[path]} == {200}
        assert sorted(reply.seconds for reply in replies[path])[10] < 0.1, path
