"""Faults of RQ alone. docs/guarantees.md has a row for each test."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Installed, variants
from loads import flood, numbered
from serving import Observed, Service, beside, serve, wait_for

pytestmark = [
    pytest.mark.faults,
    pytest.mark.parametrize("installed", variants(["file"], ["rq"]), indirect=True),
]


@pytest.fixture
def fresh(installed: Installed, tmp_path: Path) -> Iterator[Service]:
    """A service with Redis and no worker yet."""
    with serve(installed, tmp_path, workers=0) as service:
        yield service


def ready(service: Service) -> bool:
    return service.get("/health/ready").status == 200


def test_services_share_a_redis(fresh: Service, tmp_path: Path) -> None:
    assert fresh.redis
    redis = fresh.redis
    with beside(fresh, tmp_path / "second") as second:
        for service, first in ((fresh, 0), (second, 100)):
            statuses: dict[str, int] = {}
            flood(service.port, numbered(range(first, first + 100)), statuses)
            assert list(statuses.values()) == [200] * 100
        for service in (fresh, second):
            service.start_worker()
        fresh.expect("log", *map(str, range(100)))
        second.expect("log", *map(str, range(100, 200)))

        second.start_schedule(HEARTBEAT_INTERVAL="1")
        wait_for(lambda: len(second.records("service_log")) >= 3, "three heartbeats of the second service")
        assert fresh.records("service_log") == []

        second.start("python", "-c", "from myservice.broker import queue; queue.enqueue('myservice.gone')")
        wait_for(lambda: redis.command("ZCARD", "rq:failed:second") == ":1", "the second service's failure")
        again = fresh.start("poe", "-C", str(fresh.project.path), "failed")
        assert again.wait() == 0
        assert again.output == ["Failed tasks queued again: 0\n"]
        assert redis.command("ZCARD", "rq:failed:second") == ":1"


def test_unreadable_jobs(fresh: Service) -> None:
    assert fresh.redis
    command = fresh.redis.command
    fresh.post("/log/?message=garbage")
    job = command("LINDEX", "rq:queue:myservice", "0")
    command("HSET", f"rq:job:{job}", "status", "garbage")
    command("RPUSH", "rq:queue:myservice", r'"\xff\xfe"')
    command("RPUSH", "rq:queue:myservice:intermediate", r'"\xff\xfd"')
    fresh.post("/log/?message=hello")
    worker = fresh.start_worker()
    fresh.expect("log", "hello")

    assert command("LLEN", "rq:queue:myservice:unreadable") == ":3"
    assert worker.said().count('"ERROR"') == 3
    assert worker.runs()


def test_job_that_a_worker_does_not_know(fresh: Service) -> None:
    assert fresh.redis
    command = fresh.redis.command
    crafted = """
from rq import Retry
from myservice.broker import queue
queue.enqueue("os.mkdir", "forbidden", retry=Retry(3, interval=10))
queue.enqueue("myservice.sink.os.mkdir", "forbidden", retry=Retry(3, interval=10))
queue.enqueue("myservice.tasks.write_log", "x", channel="../forbidden", retry=Retry(3, interval=10))
queue.enqueue("myservice.tasks.send_email", "forbidden", "x", retry=Retry(3, interval=10))
"""
    assert fresh.start("python", "-c", crafted).wait() == 0
    worker = fresh.start_worker()
    wait_for(lambda: command("ZCARD", "rq:failed:myservice") == ":4", "the jobs to fail", seconds=5)

    assert not list(fresh.folder.rglob("forbidden*"))
    assert "forbidden" not in worker.said()


def test_end_that_nobody_asked_for_is_an_error(fresh: Service) -> None:
    assert fresh.redis
    observed = Observed(fresh, slow=2)
    idle = fresh.start_worker()
    wait_for(lambda: "Listening" in idle.said(), "the worker")
    fresh.redis.command("SET", "rq:queue:myservice", "no-list")
    fresh.redis.command("CLIENT", "KILL", "TYPE", "normal")
    assert idle.wait() == 1

    fresh.redis.command("DEL", "rq:queue:myservice")
    schedule = fresh.start_schedule(HEARTBEAT_INTERVAL="1")
    busy = fresh.start_worker(**observed.environment)
    wait_for(observed.begun, "a task to begin")
    fresh.redis.process.kill()
    assert [busy.wait(), schedule.wait()] == [1, 1]


def test_redis_is_full(fresh: Service) -> None:
    assert fresh.redis
    observed = Observed(fresh, slow=3)
    for number in range(20):
        assert fresh.post(f"/log/?message={number}").status == 200
    worker = fresh.start_worker(**observed.environment)
    wait_for(observed.begun, "the first task to begin")
    fresh.redis.command("CONFIG", "SET", "maxmemory", "1")
    refused = fresh.post("/log/?message=refused")
    full_since = time.monotonic()

    assert refused.status == 503
    assert not ready(fresh)
    wait_for(lambda: worker.said().count("Redis is full") > 3, "the worker to wait")
    assert worker.said().count("\n") < 100
    assert worker.said().count("Redis is full") < 5 + time.monotonic() - full_since
    fresh.redis.command("CONFIG", "SET", "maxmemory", "0")
    lifted = time.monotonic()
    wait_for(lambda: ready(fresh), "the service to recover", seconds=5)
    wait_for(lambda: len(set(fresh.records("log"))) >= 19, "the worker to go on", seconds=30)
    went_on = time.monotonic() - lifted
    wait_for(fresh.is_idle, "every task", seconds=240)

    print(f"the worker went on after {went_on:.0f} s; {len(fresh.records('log')) - 20} of 20 tasks ran twice")
    assert set(fresh.records("log")) == set(map(str, range(20)))
    fresh.redis.command("CONFIG", "SET", "maxmemory", "1")
    waits = worker.said().count("Redis is full")
    wait_for(lambda: worker.said().count("Redis is full") > waits, "the worker to wait again")
    assert worker.stop() == 0
