"""The schedule."""

import json
from collections.abc import Callable
from unittest.mock import Mock

import pytest
from redis import Redis
from rq import cron_job_registry
from rq.cron import CronScheduler

from {{ cookiecutter.package_name }} import logs, scheduler
from {{ cookiecutter.package_name }}.broker import queue
from {{ cookiecutter.package_name }}.tasks import write_log


def test_heartbeat_runs(
    work: Callable[[], None],
    records: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(logs, "configure", Mock())
    monkeypatch.setattr(Redis, "from_url", lambda _url: queue.connection)
    monkeypatch.setattr(CronScheduler, "start", CronScheduler.enqueue_jobs)
    scheduler.main()
    (job,) = queue.jobs
    work()

    assert records("service_log") == ["[TestService] heartbeat"]
    assert job.ttl == 60
    (name,) = cron_job_registry.get_names(queue.connection)
    assert name == "{{ cookiecutter.project_slug }}.heartbeat"
    assert scheduler.JOBS[0].get_job_ids(queue.connection) == [job.id]
    assert f"Enqueued {name} ({job.id})" in caplog.text


def test_cron_job_keeps_its_options() -> None:
    job = scheduler.JSONCronJob(
        queue.name,
        func=write_log,
        args=("hello",),
        kwargs={"channel": "task_log"},
        cron="0 3 * * *",
        job_timeout=7,
        result_ttl=8,
        failure_ttl=9,
        meta={"team": "night"},
    ).enqueue(queue.connection)

    assert json.loads(job.data)[2:] == [["hello"], {"channel": "task_log"}]
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (7, 8, 9)
    assert job.meta == {"team": "night"}
    assert job.retries_left == 3
