"""Tasks on their way to a worker."""

import json
from collections.abc import Callable
from functools import partial
from unittest.mock import Mock

import pytest
from redis.client import Pipeline
from rq.job import JobStatus

from {{ cookiecutter.package_name }} import tasks
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


def test_no_task_runs_unless_redis_takes_both(
    work: Callable[[], None], records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "execute", Mock(side_effect=BrokerError("It is gone")))
        with pytest.raises(BrokerError):
            enqueue_in_order(partial(tasks.write_log, "first"), partial(tasks.write_log, "second"))
    work()

    assert records("log") == []
