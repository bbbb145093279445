"""Tasks on their way to a worker."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from redis.client import Pipeline
from rq.job import JobStatus

from {{ cookiecutter.package_name }} import broker, tasks
from {{ cookiecutter.package_name }}.broker import BrokerError, enqueue, enqueue_in_order

Records = Callable[[str], list[str]]


def test_task_travels_as_json(work: Callable[[], None], records: Records) -> None:
    job = enqueue(tasks.write_log, "hello", channel="task_log")

    name = f"{tasks.__name__}.write_log"
    assert json.loads(job.data) == [name, None, ["hello"], {"channel": "task_log"}]
    assert job.retry_intervals == [5, 10, 20]
    work()
    assert job.get_status() == JobStatus.FINISHED
    assert records("task_log") == ["hello"]


def test_model_travels_as_json(work: Callable[[], None], records: Records) -> None:
    job = enqueue(tasks.log_service_event, tasks.Config(service_name="Other"), event="started")

    assert json.loads(job.data)[2:] == [[{"service_name": "Other"}], {"event": "started"}]
    work()
    assert records("service_log") == ["[Other] started"]


def test_tasks_run_in_order(work: Callable[[], None], records: Records) -> None:
    first, second = enqueue_in_order(
        partial(tasks.write_log, "first"), partial(tasks.write_log, "second")
    )

    assert [first.get_status(), second.get_status()] == [JobStatus.QUEUED, JobStatus.DEFERRED]
    work()
    assert records("log") == ["first", "second"]


@pytest.mark.parametrize("successes", range(3))
def test_redis_takes_both_tasks_or_none(
    successes: int, work: Callable[[], None], records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = broker.queue.connection
    execute = Pipeline.execute
    connected = iter([True] * successes)

    def execute_while_connected(pipeline: Pipeline) -> list[Any]:
        if not next(connected, False):
            raise BrokerError("Connection lost")
        return execute(pipeline)

    with monkeypatch.context() as patch, suppress(BrokerError):
        patch.setattr(Pipeline, "execute", execute_while_connected)
        enqueue_in_order(partial(tasks.write_log, "first"), partial(tasks.write_log, "second"))
    work()

    assert records("log") in ([], ["first", "second"])
    assert all(redis.ttl(key) > 0 for key in redis.keys("rq:job:*"))  # nothing stays for ever


def test_tasks_in_order_do_not_expire_in_the_queue() -> None:
    jobs = enqueue_in_order(partial(tasks.write_log, "first"), partial(tasks.write_log, "second"))

    assert [broker.queue.connection.ttl(job.key) for job in jobs] == [-1, -1]


def test_function_that_is_no_task_is_refused() -> None:
    with pytest.raises(TypeError, match="@task"):
        enqueue(print, "hello")


def test_tasks_are_refused_at_once_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Mock(return_value=100.0)
    monkeypatch.setattr("time.monotonic", clock)
    execute = Mock(side_effect=BrokerError("Timeout"))
    monkeypatch.setattr(Pipeline, "execute", execute)
    for hand_over in (lambda: enqueue(tasks.write_log, "hello"), broker.check):
        with pytest.raises(BrokerError):
            hand_over()
    assert execute.call_count == 1

    def hang(_pipeline: Pipeline) -> list[Any]:
        with pytest.raises(BrokerError):  # meanwhile, in another thread
            broker.check()
        return []

    clock.return_value += 1
    monkeypatch.setattr(Pipeline, "execute", hang)
    enqueue(tasks.write_log, "hello")
    monkeypatch.setattr(Pipeline, "execute", Mock())
    broker.check()
