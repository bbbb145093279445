"""Celery and RQ with real workers and a real Redis."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import decompress

import pytest
from conftest import Installed, variants
from serving import WORKER, Observed, Service, refused_start, serve, wait_for

to_files = pytest.mark.parametrize("installed", variants(["file"], ["celery", "rq"]), indirect=True)
on_redis = pytest.mark.parametrize("installed", variants(engines=["celery", "rq"]), indirect=True)


@pytest.fixture
def without_worker(installed: Installed, tmp_path: Path) -> Iterator[Service]:
    """A service with Redis and no worker yet."""
    with serve(installed, tmp_path, workers=0) as service:
        yield service


@on_redis
def test_worker_logs_start_and_end_of_each_task(service: Service) -> None:
    service.post("/log/?message=hello")
    service.expect("log", "hello")
    start, end = {
        "celery": (r"write_log\[(\S+)\] started", r"write_log\[{}\] succeeded in"),
        "rq": (r"myservice: \S+write_log \((\S+)\)", r"myservice: Job OK \({}\)"),
    }[service.project.engine]
    worker = service.processes[1]

    task = re.findall(start, worker.said())[-1]
    wait_for(lambda: re.search(end.format(task), worker.said()), "the end in the log")
    # Celery logs the connection with our own transport, too.
    assert service.project.engine == "rq" or "Connected to redis://" in worker.said()


@to_files
def test_orders_hold_with_many_workers(without_worker: Service) -> None:
    observed = Observed(without_worker)
    without_worker.start_worker(**observed.environment)
    without_worker.start_worker(**observed.environment)
    with ThreadPoolExecutor(max_workers=8) as pool:
        replies = list(pool.map(lambda _: without_worker.post("/complex-task/"), range(30)))

    assert [reply.status for reply in replies] == [200] * 30
    wait_for(lambda: len(without_worker.records("emails")) >= 30, "every task")
    orders: dict[str, list[str]] = {}
    for _, root, channel in observed.begun():
        orders.setdefault(root, []).append(channel)
    assert list(orders.values()) == [["task_log", "emails"]] * 30


@to_files
def test_schedule_fires(without_worker: Service) -> None:
    without_worker.start_worker()
    schedule = without_worker.start_schedule(HEARTBEAT_INTERVAL="1")
    wait_for(lambda: len(without_worker.records("service_log")) >= 3, "three heartbeats")

    assert set(without_worker.records("service_log")) == {"[MyService] heartbeat"}
    schedule.stop()


@to_files
def test_tasks_travel_as_json(without_worker: Service) -> None:
    """Pickle would let anyone who can write to Redis run code in a worker."""
    assert without_worker.redis
    command = without_worker.redis.command
    without_worker.post("/service-event/?event=hello")

    if without_worker.project.engine == "celery":
        message = json.loads(command("LINDEX", "myservice:celery", "0"))
        assert message["content-type"] == "application/json"
        arguments = json.loads(b64decode(message["body"]))[0]
    else:
        job = command("LINDEX", "rq:queue:myservice", "0")
        arguments = json.loads(decompress(command("HGET", f"rq:job:{job}", "data").encode("latin-1")))[2]
    assert arguments == [{"service_name": "MyService"}, "hello"]


@to_files
def test_first_request_is_not_slower(without_worker: Service) -> None:
    first = without_worker.post("/log/?message=first").seconds
    others = sorted(without_worker.post("/log/?message=other").seconds for _ in range(20))

    print(f"{without_worker.project.engine}: first {first * 1000:.0f} ms, others {others[10] * 1000:.0f} ms")
    assert first < 0.4


@to_files
def test_worker_refuses_to_start_where_it_cannot_write(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    occupied = str(tmp_path / "occupied")
    status, said = refused_start(installed, tmp_path, *WORKER[installed.engine], RECORDS_DIR=occupied)

    assert status != 0
    assert said.startswith("Cannot start: Records cannot be written: RECORDS_DIR: ")
    assert said.count("\n") == 1
