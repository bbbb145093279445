"""What becomes of tasks."""

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from clients import WorkerInProcess, break_broker, work
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span
from redis import Redis, RedisError
from rq import Queue, Retry
from rq.cron import CronScheduler
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from {{ cookiecutter.package_name }} import logs, scheduler, sink, tasks, tracing, worker
from {{ cookiecutter.package_name }}.settings import settings

Records = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def _empty_queue() -> Iterator[None]:
    yield
    worker.queue.connection.flushall()


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The channels that were to be written, on a sink that takes no line; retries do not wait."""
    channels: list[str] = []

    def refuse(channel: str, _line: str) -> None:
        channels.append(channel)
        raise OSError("No space left on device")

    monkeypatch.setattr(sink, "write", refuse)
    monkeypatch.setattr(worker, "RETRY", Retry(max=worker.RETRY.max))
    return channels


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    """The spans of tasks that are marked as failed."""
    spans: list[Span] = []
    monkeypatch.setattr(tracing, "fail", spans.append)
    monkeypatch.setattr(trace, "get_tracer", TracerProvider().get_tracer)
    return spans


def reason(job: Job) -> str:
    """Why a job failed."""
    result = job.latest_result()
    assert result
    return str(result.exc_string)


def test_failing_task_is_retried_and_kept(client: TestClient, attempts: list[str]) -> None:
    client.post("/log/", params={"message": "hello"})

    assert attempts == ["log"] * 4
    (job_id,) = worker.queue.failed_job_registry.get_job_ids()
    job = worker.queue.fetch_job(job_id)
    assert job
    assert job.args == ["hello"]
    assert "No space left on device" in reason(job)


def test_second_task_is_cancelled_if_the_first_fails(
    client: TestClient, attempts: list[str]
) -> None:
    client.post("/complex-task/")

    assert set(attempts) == {"task_log"}
    assert worker.queue.deferred_job_registry.get_job_ids() == []
    (job_id,) = worker.queue.canceled_job_registry.get_job_ids()
    job = worker.queue.fetch_job(job_id)
    assert job
    assert job.func_name == f"{tasks.__name__}.send_email"


def test_all_that_follows_is_cancelled() -> None:
    jobs: list[Job] = []
    for _ in range(3):
        jobs.append(
            worker.queue.enqueue(tasks.log_service_event, {}, "refused", depends_on=jobs[-1:])
        )
    work()

    assert [job.get_status() for job in jobs] == [
        JobStatus.FAILED,
        JobStatus.CANCELED,
        JobStatus.CANCELED,
    ]


def test_requeued_task_may_fail_again(client: TestClient, attempts: list[str]) -> None:
    client.post("/complex-task/")
    (job_id,) = worker.queue.failed_job_registry.get_job_ids()
    worker.queue.failed_job_registry.requeue(job_id)
    work()

    assert attempts == ["task_log"] * 5
    assert worker.queue.failed_job_registry.get_job_ids() == [job_id]


def test_second_task_waits_for_the_retries_of_the_first(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels: list[str] = []

    def refuse_once(channel: str, _line: str) -> None:
        channels.append(channel)
        if len(channels) == 1:
            raise OSError("No space left on device")

    monkeypatch.setattr(sink, "write", refuse_once)
    monkeypatch.setattr(worker, "RETRY", Retry(max=1))
    client.post("/complex-task/")

    assert channels == ["task_log", "task_log", "emails"]


def test_tasks_travel_as_json() -> None:
    job = worker.queue.enqueue(tasks.write_log, "hello")

    assert json.loads(job.data) == [f"{tasks.__name__}.write_log", None, ["hello"], {}]


def test_failed_task_is_a_failed_span(
    client: TestClient, attempts: list[str], failed: list[Span]
) -> None:
    client.post("/log/", params={"message": "hello"})

    assert len(failed) == len(attempts)


def test_task_that_is_done_is_no_failed_span(client: TestClient, failed: list[Span]) -> None:
    client.post("/log/", params={"message": "hello"})

    assert failed == []


def test_worker_goes_on_after_a_job_that_nobody_keeps(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer", TracerProvider().get_tracer)
    worker.queue.enqueue(tasks.write_log, "gone", result_ttl=0)
    worker.queue.enqueue(tasks.write_log, "next")
    work()

    assert records("log") == ["gone", "next"]


def test_worker_goes_on_after_a_job_that_it_cannot_read(records: Records) -> None:
    # With RQ's own serializer.
    unreadable = Queue(connection=worker.queue.connection).enqueue(tasks.write_log, "lost")
    worker.queue.enqueue(tasks.write_log, "next")
    work()

    assert records("log") == ["next"]
    assert worker.queue.failed_job_registry.get_job_ids() == [unreadable.id]


def test_state_is_validated_in_the_task() -> None:
    job = worker.queue.enqueue(tasks.log_service_event, {}, "started")
    work()

    assert job.get_status() == JobStatus.FAILED
    assert "service_name" in reason(job)


def test_heartbeat_runs(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Redis, "from_url", lambda _url: worker.queue.connection)
    monkeypatch.setattr(CronScheduler, "start", CronScheduler.enqueue_jobs)
    scheduler.main()
    work()

    assert records("service_log") == ["[TestService] heartbeat"]


def test_worker_runs_what_is_in_the_queue(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.queue.enqueue(tasks.write_log, "hello")
    refused = worker.queue.enqueue(tasks.log_service_event, {}, "refused")
    following = worker.queue.enqueue(tasks.write_log, "never", depends_on=refused)
    monkeypatch.setattr(Redis, "from_url", lambda _url: worker.queue.connection)
    monkeypatch.setattr(worker, "TracingWorker", WorkerInProcess)
    called: list[str] = []

    def work_in_burst(self: WorkerInProcess, *, with_scheduler: bool) -> None:
        assert with_scheduler  # which retries wait in
        super(WorkerInProcess, self).work(burst=True)

    monkeypatch.setattr(WorkerInProcess, "work", work_in_burst)
    monkeypatch.setattr(logs, "configure", lambda: called.append("logs.configure"))
    monkeypatch.setattr(tracing, "configure", lambda: called.append("tracing.configure"))
    monkeypatch.setattr(tracing, "flush", lambda: called.append("tracing.flush"))
    worker.main()

    assert records("log") == ["hello"]
    assert following.get_status() == JobStatus.CANCELED
    assert called == ["logs.configure", "tracing.configure", *["tracing.flush"] * 3]


def test_tasks_are_imported_before_they_are_run() -> None:
    with pytest.MonkeyPatch.context() as patch:
        # As in a process that has just begun.
        patch.delitem(sys.modules, tasks.__name__)
        patch.delattr(tasks.__name__)
        break_broker(patch)
        with pytest.raises(SystemExit):
            worker.main()
        imported = tasks.__name__ in sys.modules

    assert imported


def test_worker_refuses_to_start_where_it_cannot_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(sink, "check", fail)
    with pytest.raises(SystemExit):
        worker.main()

    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("main", [worker.main, scheduler.main], ids=["worker", "scheduler"])
def test_nothing_starts_without_redis(
    capsys: pytest.CaptureFixture[str], main: Callable[[], None]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        break_broker(patch)
        with pytest.raises(SystemExit):
            main()

    assert "Cannot start: REDIS_URL: " in capsys.readouterr().err


def test_round_trip(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue in Redis in earnest, if there is a Redis."""
    redis = Redis.from_url(str(settings.redis_url), socket_connect_timeout=1)
    try:
        redis.ping()
    except RedisError:
        if "REDIS_URL" in os.environ:
            raise
        pytest.skip(f"no Redis answers at {settings.redis_url}")
    queue = Queue(f"test-{uuid.uuid4()}", connection=redis, serializer=JSONSerializer)
    monkeypatch.setattr(worker, "queue", queue)
    try:
        worker.enqueue(tasks.write_log, "hello")
        (job,) = queue.jobs
        work()
        job.delete()
    finally:
        queue.delete()

    assert records("log") == ["hello"]
