"""What Celery and RQ promise, with real workers, a real Redis, and `kill -9`."""

import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Installed, variants
from serving import Service, serve, wait_for

pytestmark = pytest.mark.parametrize("installed", variants(["file"], ["celery", "rq"]), indirect=True)

# Python imports a module of this name at its start: here is what a slow or an observed task is made of.
HOOK = """
import os, pathlib, time

def run_as(marks, seconds):
    from myservice import sink
    write = sink.write

    def hooked(channel, line):
        with marks.open("a") as file:
            file.write(f"{os.getpid()} {root()} {channel}\\n")
        if len(marks.read_text().splitlines()) == 1:
            time.sleep(seconds)
        write(channel, line)

    sink.write = hooked

def root():
    from importlib.util import find_spec
    if find_spec("celery"):
        from celery import current_task
        return current_task.request.root_id
    from rq import get_current_job
    job = get_current_job()
    return (job._dependency_ids or [job.id])[0]

if "SLOW_FIRST_TASK" in os.environ:
    run_as(pathlib.Path(os.environ["MARKS"]), float(os.environ["SLOW_FIRST_TASK"]))
"""


START = """
from fastapi.testclient import TestClient
from myservice.main import app
with TestClient(app) as client:
    print(client.get("/health/live").status_code)
"""


class Observed:
    """Workers whose tasks leave marks, and whose first takes its time."""

    def __init__(self, service: Service, slow: float = 0) -> None:
        """Prepare workers of `service`, whose first task of all takes `slow` seconds."""
        (service.folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        self.marks = service.folder / "marks.txt"
        self.environment = {
            "PYTHONPATH": str(service.folder),
            "SLOW_FIRST_TASK": str(slow),
            "MARKS": str(self.marks),
        }

    def begun(self) -> list[tuple[int, str, str]]:
        """The process, the origin and the channel of each task that was begun, in order."""
        lines = self.marks.read_text(encoding="utf-8").splitlines() if self.marks.exists() else []
        return [(int(pid), root, channel) for pid, root, channel in (line.split() for line in lines)]


@pytest.fixture
def service(installed: Installed, tmp_path: Path) -> Iterator[Service]:
    """A service with Redis and no worker yet."""
    with serve(installed, tmp_path, workers=0) as service:
        yield service


@pytest.mark.faults
def test_task_outlives_the_process_that_ran_it(service: Service) -> None:
    observed = Observed(service, slow=300)
    worker = service.start_worker(**observed.environment)
    service.post("/log/?message=hello")
    wait_for(observed.begun, "the task to begin")
    child = observed.begun()[0][0]

    assert child != worker.pid
    subprocess.run(["kill", "-9", str(child)], check=True)
    service.expect("log", "hello")
    assert worker.runs()


@pytest.mark.faults
def test_task_outlives_its_worker(service: Service) -> None:
    observed = Observed(service, slow=300)
    worker = service.start_worker(**observed.environment)
    service.post("/log/?message=hello")
    wait_for(observed.begun, "the task to begin")
    killed = time.monotonic()
    worker.kill()
    subprocess.run(["kill", "-9", str(observed.begun()[0][0])], capture_output=True)
    service.start_worker(**observed.environment)

    service.expect("log", "hello", seconds=240)
    print(f"{service.project.engine}: the line arrived {time.monotonic() - killed:.0f} s after its worker was killed")


@pytest.mark.faults
def test_worker_finishes_its_task_when_it_is_told_to_stop(service: Service) -> None:
    observed = Observed(service, slow=2)
    worker = service.start_worker(**observed.environment)
    service.post("/log/?message=hello")
    wait_for(observed.begun, "the task to begin")

    assert worker.stop() == 0
    assert service.records("log") == ["hello"]


def test_worker_logs_what_happens_to_tasks(service: Service) -> None:
    observed = Observed(service)
    worker = service.start_worker(**observed.environment)
    service.post("/log/?message=hello")
    service.expect("log", "hello")
    task = observed.begun()[0][1]
    ends = {"celery": f"[{task}] succeeded in", "rq": f"Successfully completed job {task} in"}
    starts = {"celery": f"[{task}] started", "rq": f"default: {task}"}

    wait_for(lambda: ends[service.project.engine] in worker.said(), "the end in the log")
    assert starts[service.project.engine] in worker.said()


def test_orders_hold_with_many_workers(service: Service) -> None:
    observed = Observed(service)
    service.start_worker(**observed.environment)
    service.start_worker(**observed.environment)
    with ThreadPoolExecutor(max_workers=8) as pool:
        replies = list(pool.map(lambda _: service.post("/complex-task/"), range(200)))

    assert [reply.status for reply in replies] == [200] * 200
    wait_for(lambda: len(service.records("emails")) >= 200, "every task", seconds=120)
    orders: dict[str, list[str]] = {}
    for _, root, channel in observed.begun():
        orders.setdefault(root, []).append(channel)
    assert list(orders.values()) == [["task_log", "emails"]] * 200


@pytest.mark.faults
def test_order_holds_through_retries(service: Service) -> None:
    worker = service.start_worker()
    obstacle = service.log_dir / "task_log.txt"
    wait_for(lambda: "eady" in worker.said() or "Listening" in worker.said(), "the worker")
    obstacle.unlink()
    obstacle.mkdir()
    service.post("/complex-task/")
    wait_for(lambda: "Is a directory" in worker.said(), "the first task to fail")

    assert service.records("emails") == []
    obstacle.rmdir()
    service.expect("emails", "Email to user@example.com: Your task is complete!")
    service.expect("task_log", "Task started")


@pytest.mark.faults
def test_task_that_fails_for_good_is_kept(service: Service) -> None:
    worker = service.start_worker()
    wait_for(lambda: "eady" in worker.said() or "Listening" in worker.said(), "the worker")
    obstacle = service.log_dir / "task_log.txt"
    obstacle.unlink()
    obstacle.mkdir()
    service.post("/complex-task/")
    assert service.redis
    redis = service.redis
    count = {"celery": ("LLEN", "failed"), "rq": ("ZCARD", "rq:failed:default")}[service.project.engine]
    wait_for(lambda: redis.command(*count) == ":1", "the task to fail for good", seconds=90)

    # 5, 10 and 20 seconds apart.
    wait_for(lambda: worker.said().count("Is a directory") >= 4, "four attempts in the log")
    assert service.records("emails") == []
    assert redis.command("ZCARD", "rq:deferred:default") == ":0"
    assert redis.command("LLEN", "celery") == redis.command("LLEN", "rq:queue:default") == ":0"

    obstacle.rmdir()
    again = {
        "celery": ("celery", "-A", "myservice.worker", "worker", "-Q", "failed", "-n", "failed@%h"),
        "rq": ("rq", "requeue", "--all", "--queue", "default", "--serializer", "json", "--url", redis.url),
    }
    service.start(*again[service.project.engine])
    service.expect("task_log", "Task started")


@pytest.mark.faults
def test_requests_are_refused_while_redis_hangs(service: Service) -> None:
    service.start_worker()
    assert service.redis
    redis = service.redis
    service.post("/log/?message=before")
    service.expect("log", "before")

    redis.process.signal(signal.SIGSTOP)
    with ThreadPoolExecutor(max_workers=40) as pool:
        paths = ["/log/?message=x", "/send-notification/a@example.com", "/complex-task/", "/service-event/?event=x"]
        hung = list(pool.map(service.post, paths * 9))
        ready = pool.submit(service.get, "/health/ready")
        live = [service.get("/health/live") for _ in range(10)]
    redis.process.signal(signal.SIGCONT)

    for reply in [*hung, ready.result()]:
        assert reply.status == 503
        assert reply.seconds < 3
    assert all(int(reply.headers["Retry-After"]) > 0 for reply in hung)
    assert max(reply.seconds for reply in live) < 1
    wait_for(lambda: service.get("/health/ready").status == 200, "the service to recover")
    assert service.post("/log/?message=after").status == 200
    wait_for(lambda: "after" in service.records("log"), "the line")


@pytest.mark.faults
def test_service_outlives_redis(service: Service) -> None:
    assert service.redis
    redis = service.redis
    service.post("/log/?message=kept")
    redis.process.kill()
    refused = service.post("/log/?message=refused")

    assert (refused.status, refused.body) == (
        503,
        {"detail": "The work could not be handed over; try again later"},
    )
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.seconds < 3
    reply = service.get("/health/ready")
    assert (reply.status, reply.body) == (503, {"detail": "Redis cannot be reached"})
    assert service.get("/health/live").status == 200

    redis.start()
    wait_for(lambda: service.get("/health/ready").status == 200, "the service to recover")
    assert service.post("/log/?message=back").status == 200
    service.start_worker()
    service.expect("log", "kept", "back")


@pytest.mark.faults
def test_worker_outlives_redis(service: Service) -> None:
    assert service.redis
    worker = service.start_worker()
    service.post("/log/?message=before")
    service.expect("log", "before")
    service.redis.process.kill()
    wait_for(lambda: "onnect" in worker.said(), "the worker to notice")
    service.redis.start()
    wait_for(lambda: service.get("/health/ready").status == 200, "the service to recover")
    service.post("/log/?message=after")

    def arrived() -> bool:
        # Workers may end if Redis goes away between two steps of a task; compose starts them again, as here.
        if not service.processes[-1].runs():
            service.start_worker()
        return "after" in service.records("log")

    wait_for(arrived, "the line")


@pytest.mark.faults
def test_service_starts_without_redis(service: Service) -> None:
    assert service.redis
    service.redis.process.kill()
    other = service.start("python", "-c", START)

    assert other.wait() == 0
    assert other.output == ["200\n"]
    assert "Redis cannot be reached" in other.said()


def test_schedule_fires(service: Service) -> None:
    service.start_worker()
    schedule = service.start_schedule(HEARTBEAT_INTERVAL="1")
    wait_for(lambda: len(service.records("service_log")) >= 3, "three heartbeats")

    assert set(service.records("service_log")) == {"[MyService] heartbeat"}
    schedule.stop()


def test_first_request_is_not_slower(service: Service) -> None:
    wait_for(lambda: service.get("/health/live").status == 200, "the service")
    first = service.post("/log/?message=first").seconds
    others = sorted(service.post("/log/?message=other").seconds for _ in range(20))

    print(f"{service.project.engine}: first {first * 1000:.0f} ms, others {others[10] * 1000:.0f} ms")
    assert first < 0.4


def test_worker_refuses_to_start_where_it_cannot_write(service: Service) -> None:
    (service.folder / "occupied").touch()
    worker = service.start_worker(LOG_DIR=str(service.folder / "occupied"))

    assert worker.wait() != 0
    assert "Cannot start: records cannot be written: LOG_DIR" in worker.said()


def test_nothing_is_pickled(installed: Installed) -> None:
    sources = [path for path in installed.path.rglob("*") if path.is_file() and ".venv" not in path.parts]

    assert not [
        path
        for path in sources
        if path.suffix in {".py", ".md", ".toml", ".yaml"} and "pickle" in path.read_text(encoding="utf-8").lower()
    ]


def test_no_password_in_logs(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, workers=0) as service:
        assert service.redis
        service.redis.command("CONFIG", "SET", "requirepass", "hunter2")
        right, wrong = (
            {"REDIS_URL": service.redis.url.replace("//", f"//:{password}@")} for password in ("hunter2", "hunter2x")
        )
        stranger = service.start("python", "-c", START, **wrong)
        assert stranger.wait() == 0
        assert "Redis cannot be reached" in stranger.said()
        lost = service.start_worker(**wrong)
        wait_for(lambda: "password" in lost.said(), "the worker to be refused")
        lost.kill()
        worker = service.start_worker(**right)
        service.start_schedule(**right, HEARTBEAT_INTERVAL="1")
        wait_for(lambda: service.records("service_log"), "a heartbeat")
        refused = service.start("python", "-c", START, REDIS_URL="http://:hunter2@localhost")
        assert refused.wait() != 0

        assert "REDIS_URL" in refused.said()
        assert worker.said()
        for process in service.processes:
            assert "hunter2" not in process.said() + "".join(process.output)
