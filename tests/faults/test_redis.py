"""Processes that are killed, and a Redis that stops or hangs. docs/guarantees.md has a row for each test."""

import asyncio
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from conftest import Installed, variants
from loads import flood, lines_of, numbered
from serving import START, Observed, Process, Service, serve, wait_for

pytestmark = [
    pytest.mark.faults,
    pytest.mark.parametrize("installed", variants(["file"], ["celery", "rq"]), indirect=True),
]


@pytest.fixture
def fresh(installed: Installed, tmp_path: Path) -> Iterator[Service]:
    """A service with Redis and no worker yet."""
    with serve(installed, tmp_path, workers=0) as service:
        yield service


def start_ready_worker(service: Service) -> Process:
    """Start a worker, and wait until it takes tasks."""
    worker = service.start_worker()
    wait_for(lambda: re.search("ready|Listening", worker.said()), "the worker")
    return worker


def test_task_outlives_the_process_that_ran_it(fresh: Service) -> None:
    observed = Observed(fresh, slow=300)
    worker = fresh.start_worker(**observed.environment)
    fresh.post("/log/?message=hello")
    wait_for(observed.begun, "the task to begin")
    child = observed.begun()[0][0]

    assert child != worker.pid
    subprocess.run(["kill", "-9", str(child)], check=True)
    fresh.expect("log", "hello")
    assert worker.runs()


def test_task_outlives_its_worker(fresh: Service) -> None:
    observed = Observed(fresh, slow=300)
    worker = fresh.start_worker(**observed.environment)
    fresh.post("/log/?message=hello")
    wait_for(observed.begun, "the task to begin")
    killed = time.monotonic()
    worker.kill()
    subprocess.run(["kill", "-9", str(observed.begun()[0][0])], capture_output=True)
    fresh.start_worker(**observed.environment)

    fresh.expect("log", "hello", seconds=240)
    print(f"{fresh.project.engine}: the line arrived {time.monotonic() - killed:.0f} s after its worker was killed")


def test_worker_finishes_its_task_when_it_is_told_to_stop(fresh: Service) -> None:
    observed = Observed(fresh, slow=2)
    worker = fresh.start_worker(**observed.environment)
    fresh.post("/log/?message=hello")
    wait_for(observed.begun, "the task to begin")

    assert worker.stop() == 0
    assert fresh.records("log") == ["hello"]


def test_stop_during_retries(fresh: Service) -> None:
    worker = start_ready_worker(fresh)
    obstacle = fresh.records_dir / "task_log.txt"
    obstacle.unlink()
    obstacle.mkdir()
    fresh.post("/complex-task/")
    wait_for(lambda: "Is a directory" in worker.said(), "the first task to fail")

    told = time.monotonic()
    worker.stop()
    assert time.monotonic() - told < 4  # a second before the retry
    obstacle.rmdir()
    fresh.start_worker()
    fresh.expect("task_log", "Task started")
    fresh.expect("emails", "Email to user@example.com: Your task is complete!")


def test_order_holds_through_retries(fresh: Service) -> None:
    worker = start_ready_worker(fresh)
    obstacle = fresh.records_dir / "task_log.txt"
    obstacle.unlink()
    obstacle.mkdir()
    fresh.post("/complex-task/")
    wait_for(lambda: "Is a directory" in worker.said(), "the first task to fail")

    assert fresh.records("emails") == []
    obstacle.rmdir()
    fresh.expect("emails", "Email to user@example.com: Your task is complete!")
    fresh.expect("task_log", "Task started")


def test_task_that_fails_for_good_is_kept(fresh: Service) -> None:
    worker = start_ready_worker(fresh)
    obstacle = fresh.records_dir / "task_log.txt"
    obstacle.unlink()
    obstacle.mkdir()
    fresh.post("/complex-task/")
    assert fresh.redis
    redis = fresh.redis
    count = {"celery": ("LLEN", "myservice:failed"), "rq": ("ZCARD", "rq:failed:myservice")}[fresh.project.engine]
    wait_for(lambda: redis.command(*count) == ":1", "the task to fail for good", seconds=90)

    # 5, 10 and 20 seconds apart.
    wait_for(lambda: worker.said().count("Is a directory") >= 4, "four attempts in the log")
    assert fresh.records("emails") == []
    assert redis.command("ZCARD", "rq:deferred:myservice") == ":0"
    assert redis.command("LLEN", "myservice:celery") == redis.command("LLEN", "rq:queue:myservice") == ":0"

    obstacle.rmdir()
    again = fresh.start("poe", "-C", str(fresh.project.path), "failed")
    fresh.expect("task_log", "Task started")
    if fresh.project.engine == "celery":  # the rest of the chain is kept with it
        fresh.expect("emails", "Email to user@example.com: Your task is complete!")
    wait_for(fresh.is_idle, "further tasks")
    assert len(fresh.records("emails")) == (fresh.project.engine == "celery")
    again.kill()


def test_requests_are_refused_while_redis_hangs(fresh: Service) -> None:
    start_ready_worker(fresh)
    assert fresh.redis
    fresh.post("/log/?message=before")
    fresh.expect("log", "before")

    fresh.redis.process.signal(signal.SIGSTOP)
    with ThreadPoolExecutor(max_workers=40) as pool:
        paths = ["/log/?message=x", "/send-notification/a@example.com", "/complex-task/", "/service-event/?event=x"]
        hung = list(pool.map(fresh.post, paths * 9))
        ready = pool.submit(fresh.get, "/health/ready")
        live = [fresh.get("/health/live") for _ in range(10)]
    fresh.redis.process.signal(signal.SIGCONT)

    for reply in [*hung, ready.result()]:
        assert reply.status == 503
        assert reply.seconds < 3
    assert all(int(reply.headers["Retry-After"]) > 0 for reply in hung)
    assert max(reply.seconds for reply in live) < 1
    wait_for(lambda: fresh.get("/health/ready").status == 200, "the service to recover")
    assert fresh.post("/log/?message=after").status == 200
    wait_for(lambda: "after" in fresh.records("log"), "the line")


def test_many_clients_of_a_redis_that_hangs(fresh: Service) -> None:
    """Requests that wait for Redis do not add up."""
    assert fresh.redis
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.prlimit(fresh.server.pid, resource.RLIMIT_NOFILE, (most, most))
    fresh.post("/log/?message=before")
    paths = ["/log/?message=x", "/send-notification/a@example.com", "/complex-task/", "/service-event/?event=x"]

    async def send(request: str) -> tuple[int, float]:
        start = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", fresh.port)
        with closing(writer):
            writer.write(f"{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            status = int((await reader.read()).split()[1])
        return status, time.monotonic() - start

    async def send_all() -> list[tuple[int, float]]:
        posts = [send(f"POST {path}") for path in paths * 250]
        return await asyncio.gather(*posts, *(send("GET /health/ready") for _ in range(20)))

    fresh.redis.process.signal(signal.SIGSTOP)
    replies = asyncio.run(send_all())
    fresh.redis.process.signal(signal.SIGCONT)
    start = time.monotonic()
    wait_for(lambda: fresh.post("/log/?message=after").status == 200, "the service to recover")
    recovered = time.monotonic() - start

    slowest, ready = (max(seconds for _, seconds in part) for part in (replies[:1000], replies[1000:]))
    print(f"slowest of 1,000: {slowest:.1f} s, /health/ready: {ready:.1f} s, recovered after {recovered:.1f} s")
    assert {status for status, _ in replies} == {503}
    assert max(slowest, ready) < 3
    assert recovered < (2 if fresh.project.engine == "celery" else 2.5)


def test_refused_task_may_still_run(fresh: Service) -> None:
    """When a Redis that hung continues, it runs the commands that it received over open connections."""
    start_ready_worker(fresh)
    assert fresh.redis
    refused: list[str] = []
    for number in range(20):
        fresh.post(f"/log/?message=before-{number}")
        fresh.redis.process.signal(signal.SIGSTOP)
        if fresh.post(f"/log/?message={number}").status == 503:
            refused.append(str(number))
        fresh.redis.process.signal(signal.SIGCONT)
        wait_for(lambda: fresh.get("/health/ready").status == 200, "the service to recover")
    fresh.post("/log/?message=last")
    wait_for(lambda: "last" in fresh.records("log") and fresh.is_idle(), "every task")

    ran = set(refused) & set(fresh.records("log"))
    print(f"{fresh.project.engine}: {len(ran)} of {len(refused)} refused tasks ran")
    assert ran


def test_service_outlives_redis(fresh: Service) -> None:
    assert fresh.redis
    redis = fresh.redis
    fresh.post("/log/?message=kept")
    redis.process.kill()
    refused = fresh.post("/log/?message=refused")

    assert (refused.status, refused.body) == (
        503,
        {"detail": "The work could not be scheduled; try again later"},
    )
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.seconds < 3
    reply = fresh.get("/health/ready")
    assert (reply.status, reply.body) == (503, {"detail": "Redis cannot take tasks"})
    assert fresh.get("/health/live").status == 200

    redis.start()
    wait_for(lambda: fresh.get("/health/ready").status == 200, "the service to recover")
    assert fresh.post("/log/?message=back").status == 200
    fresh.start_worker()
    fresh.expect("log", "kept", "back")


def test_worker_outlives_redis(fresh: Service) -> None:
    assert fresh.redis
    worker = fresh.start_worker()
    fresh.post("/log/?message=before")
    fresh.expect("log", "before")
    fresh.redis.process.kill()
    wait_for(lambda: "onnect" in worker.said(), "the worker to notice")
    fresh.redis.start()
    wait_for(lambda: fresh.get("/health/ready").status == 200, "the service to recover")
    fresh.post("/log/?message=after")

    def arrived() -> bool:
        # Workers may end if Redis goes away between two steps of a task; compose starts them again, as here.
        if not fresh.processes[-1].runs():
            fresh.start_worker()
        return "after" in fresh.records("log")

    wait_for(arrived, "the line")


def test_service_starts_without_redis(fresh: Service) -> None:
    assert fresh.redis
    fresh.redis.process.kill()
    other = fresh.start("python", "-c", START)

    assert other.wait() == 0
    assert other.output == ["200\n"]
    assert "Redis cannot be reached" in other.said()


SLOW_TASKS = """
import time
from myservice import sink
write = sink.write

def write_slowly(channel, line):
    time.sleep(0.02)
    write(channel, line)

sink.write = write_slowly
"""


def test_workers_killed_and_redis_restarted(fresh: Service) -> None:
    assert fresh.redis
    slow = fresh.preload(SLOW_TASKS)
    seed = time.time_ns() % 1000
    chance = random.Random(seed)  # noqa: S311
    faults = ["child"] * 6 + ["worker"] * 3 + ["Redis"]
    chance.shuffle(faults)
    print(f"seed {seed}: {faults}")
    statuses: dict[str, int] = {}
    workers = [fresh.start_worker(**slow) for _ in range(2)]

    def keep_running() -> None:
        """Restart the workers that have ended, as compose does."""
        workers[:] = [worker if worker.runs() else fresh.start_worker(**slow) for worker in workers]

    def arrived() -> set[str]:
        keep_running()
        return set(fresh.records("log"))

    flood(fresh.port, numbered(range(1000)), statuses, connections=8)
    assert set(statuses.values()) == {200}
    wait_for(arrived, "the first task")
    for fault in faults:
        time.sleep(chance.uniform(0.1, 0.5))
        keep_running()
        worker = chance.choice(workers)
        if fault == "child":
            for child in worker.tree()[-1:]:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        elif fault == "worker":
            worker.kill()
        else:
            fresh.redis.process.stop()
            fresh.redis.start()
    assert len(arrived()) < 1000, "everything was done before the last fault"
    wait_for(lambda: len(arrived()) >= 1000, "every task", seconds=400)

    twice = len(fresh.records("log")) - 1000
    print(f"{fresh.project.engine}: {twice} of 1,000 tasks ran twice")
    assert sorted(set(fresh.records("log"))) == lines_of(statuses)
