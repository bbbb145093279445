"""Celery's workers and Redis: other projects, tasks that cannot run, a Redis that is full."""

import json
import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from conftest import Installed, variants
from loads import flood, flooded, lines_of, numbered
from serving import Process, Service, beside, serve, wait_for

pytestmark = [
    pytest.mark.faults,
    pytest.mark.parametrize("installed", variants(["file"], ["celery"]), indirect=True),
]

# Tasks that fail in ways of their own, and retries without a pause.
FAILING_TASKS = """
import time
from celery.app import autoretry
from myservice import sink

autoretry.get_exponential_backoff_interval = lambda **_: 0
write = sink.write

def write_or_fail(channel, line):
    if line == "memory":
        raise MemoryError
    if line == "fail":
        raise OSError
    if line == "slow":
        time.sleep(60)
    time.sleep(0.01)
    write(channel, line)

sink.write = write_or_fail
"""
UNREADABLE = ["", "no JSON", "[]", "{}", json.dumps({"properties": {"delivery_info": {}}}), b"\xff"]


def message(**fields: object) -> str:
    """Return a message for `write_log` as it is in Redis, with other `fields`."""
    address = {"exchange": "", "routing_key": "celery"}
    return json.dumps(
        {
            "properties": {"delivery_tag": "1", "delivery_info": address, "body_encoding": "base64"},
            "headers": {"id": "1", "task": "myservice.tasks.write_log"},
            "content-type": "application/json",
            "content-encoding": "utf-8",
        }
        | fields
    )


@pytest.fixture
def fresh(installed: Installed, tmp_path: Path) -> Iterator[Service]:
    """A service with Redis and no worker yet."""
    with serve(installed, tmp_path, workers=0) as service:
        yield service


def start_ready_worker(service: Service, **environment: str) -> Process:
    """Start a worker, and wait until it takes tasks."""
    worker = service.start_worker(**environment)
    wait_for(lambda: "ready" in worker.said(), "the worker")
    return worker


def in_redis(service: Service, code: str) -> str:
    """Run a line of Python in the project, in which `redis` is a client, and return its output."""
    assert service.redis
    client = f"import json, redis; redis = redis.Redis.from_url('{service.redis.url}')"
    return service.project.run("python", "-c", f"{client}\n{code}").strip()


def length(service: Service, name: str) -> int:
    """Return how many messages a list of the first project has."""
    assert service.redis
    return int(service.redis.command("LLEN", f"myservice:{name}")[1:])


def test_projects_share_a_redis(fresh: Service, tmp_path: Path) -> None:
    with beside(fresh, tmp_path / "second") as second:
        statuses: dict[str, int] = {}
        for service in (fresh, second):
            start_ready_worker(service)
            flood(service.port, numbered(range(200)), statuses)
            assert len(lines_of(statuses)) == 200
        for service in (fresh, second):
            service.expect("log", *lines_of(statuses))
        keys = json.loads(in_redis(fresh, "print(json.dumps([key.decode() for key in redis.keys()]))"))

    assert {key.partition(":")[0] for key in keys} == {"myservice", "second"}


def test_tasks_that_cannot_run_are_put_aside(fresh: Service) -> None:
    worker = start_ready_worker(fresh, **fresh.preload(FAILING_TASKS))
    sent = [
        "('myservice.tasks.unknown', ('secret',))",
        "('myservice.tasks.write_log', (1, 2, 3, 'secret'))",
        "('myservice.tasks.write_log', ('secret', '../../x'))",
        "('myservice.tasks.write_log', ('secret\\nforged',))",
        "('myservice.tasks.send_email', ('secret', 'hello'))",
        "('myservice.tasks.write_log', ('memory',))",
        "('myservice.tasks.write_log', ('slow',), time_limit=1)",
    ]
    code = "\n".join(["from myservice.broker import app", *(f"app.send_task{task}" for task in sent)])
    assert fresh.start("python", "-c", code).wait() == 0
    wait_for(lambda: length(fresh, "failed") == len(sent), "the failed tasks")
    fresh.post("/log/?message=hello")
    fresh.expect("log", "hello")

    said = worker.said()
    assert worker.runs()
    assert "secret" not in said
    assert len(re.findall(r"write_log\[\S+\] started", said)) == 3 + 4 + 1 + 1  # only the lack of memory is retried
    assert re.search(r"unknown\[\S+\] is in the queue 'failed'", said)
    assert re.search(r"write_log\[\S+\] ran out of memory", said)
    again = fresh.start("poe", "-C", str(fresh.project.path), "failed")
    assert again.wait() == 0
    assert again.output[-1] == f"Failed tasks queued again: {len(sent)}\n"
    wait_for(lambda: length(fresh, "failed") == len(sent) and fresh.is_idle(), "the tasks to fail again")


def test_messages_that_cannot_be_read_are_put_aside(fresh: Service) -> None:
    worker = start_ready_worker(fresh)
    unreadable = [*UNREADABLE, message(), message(body="a"), message(body="aA==", headers="x")]
    rejected = [message(body="aGVsbG8="), message(body="WzFd"), message(body="WzFd", headers={"task": ["x"]})]
    in_redis(fresh, f"for text in {unreadable + rejected!r}: redis.lpush('myservice:celery', text)")
    fresh.post("/log/?message=hello")
    fresh.expect("log", "hello")
    wait_for(fresh.is_idle, "every message")

    assert worker.runs()
    assert length(fresh, "unreadable") == len(unreadable)
    assert worker.said().count("A message that cannot be read") == len(unreadable)
    assert length(fresh, "failed") == len(rejected)


def test_redis_is_full(fresh: Service) -> None:
    assert fresh.redis
    worker = start_ready_worker(fresh, **fresh.preload(FAILING_TASKS))
    worker.signal(signal.SIGSTOP)
    statuses: dict[str, int] = {}
    flood(fresh.port, numbered(range(200)), statuses)
    fresh.post("/log/?message=fail")
    fresh.redis.command("CONFIG", "SET", "maxmemory", "1mb")
    worker.signal(signal.SIGCONT)
    refused = fresh.post("/log/?message=refused")
    ready = fresh.get("/health/ready")
    fresh.expect("log", *lines_of(statuses))
    wait_for(lambda: length(fresh, "celery") == 0, "the end of the queue")

    assert [refused.status, ready.status] == [503, 503]
    cpu_times = psutil.Process(worker.pid).cpu_times()
    time.sleep(2)  # in which an idle worker has nothing to do
    assert psutil.Process(worker.pid).cpu_times().user - cpu_times.user < 0.5
    fresh.redis.command("CONFIG", "SET", "maxmemory", "0")
    wait_for(lambda: length(fresh, "failed") == 1, "the task that fails")
    assert fresh.post("/log/?message=accepted").status == 200
    wait_for(lambda: "accepted" in fresh.records("log"), "the line")
    assert worker.runs()


def chaos(services: list[Service], kills: int, restarts: int) -> None:
    """Kill workers and Redis while requests arrive, and wait until the tasks of all that got 200 have run."""
    redis = services[0].redis
    assert redis
    seed = time.time_ns() % 1000
    chance = random.Random(seed)  # noqa: S311
    faults = ["worker"] * kills + ["Redis"] * restarts
    chance.shuffle(faults)
    print(f"seed {seed}: {faults}")
    workers = [(service, service.start_worker()) for service in services for _ in range(2)]
    ended: list[int] = []

    def keep_running() -> None:
        """Restart the workers that have ended, as compose does."""
        for at, (service, worker) in enumerate(workers):
            if not worker.runs():
                ended.append(worker.wait())
                workers[at] = service, service.start_worker()

    def missing() -> list[set[str]]:
        keep_running()
        return [set(lines_of(statuses)) - set(service.records("log")) for service, statuses in loads]

    with ExitStack() as stack:
        loads = [(service, stack.enter_context(flooded(service))) for service in services]
        wait_for(lambda: all(service.records("log") for service in services), "the first tasks")
        for fault in faults:
            time.sleep(chance.uniform(0.2, 1))
            keep_running()
            if fault == "worker":
                chance.choice(workers)[1].kill()
            else:
                redis.process.kill()
                redis.start()
    with suppress(TimeoutError):
        wait_for(lambda: not any(missing()), "every task", seconds=400)

    sent = sum(len(statuses) for _, statuses in loads)
    accepted = [len(lines_of(statuses)) for _, statuses in loads]
    twice = [len(lines) - len(set(lines)) for lines in (service.records("log") for service in services)]
    lost = [len(lines) for lines in missing()]
    print(f"{sent} requests, {accepted} accepted, {twice} ran twice, {lost} lost")
    print(f"exit statuses of workers: {ended}")
    assert not any(lost)
    assert 0 not in ended


def test_workers_and_redis_of_two_projects_are_killed(fresh: Service, tmp_path: Path) -> None:
    with beside(fresh, tmp_path / "second") as second:
        chaos([fresh, second], kills=6, restarts=2)
