"""Tasks in a worker, and those that fail."""

import uuid
from collections.abc import Callable
from unittest.mock import Mock, call

import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from redis import Redis
from rq import Queue, Retry, Worker
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from {{ cookiecutter.package_name }} import (
    broker,
    logs,
    scheduler,
    sink,
    tasks,
    tracing,
    worker,
)

Records = Callable[[str], list[str]]
Work = Callable[[], None]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """A sink that takes no line, and retries that do not wait."""
    write = Mock(side_effect=OSError("No space left on device"))
    monkeypatch.setattr(sink, "write", write)
    monkeypatch.setattr(broker, "RETRY", Retry(max=broker.RETRY.max))
    return write


@pytest.fixture
def mark_failed(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Is called with each span that is marked as failed."""
    monkeypatch.setattr(trace, "get_tracer", TracerProvider().get_tracer)
    mark_failed = Mock()
    monkeypatch.setattr(tracing, "mark_failed", mark_failed)
    return mark_failed


def reason(job: Job) -> str:
    """Why a job failed."""
    result = job.latest_result()
    assert result
    return str(result.exc_string)


def test_failing_task_is_retried_and_kept(work: Work, full_disk: Mock, mark_failed: Mock) -> None:
    job = broker.enqueue(tasks.write_log, "hello")
    work()

    assert full_disk.call_count == mark_failed.call_count == 4
    assert job.get_status() == JobStatus.FAILED
    assert broker.queue.failed_job_registry.get_job_ids() == [job.id]
    assert "No space left on device" in reason(job)


def test_second_task_waits_for_the_retries_of_the_first(
    client: TestClient, full_disk: Mock, mark_failed: Mock
) -> None:
    full_disk.side_effect = [OSError(), None, None]
    client.post("/complex-task/")

    channels = [attempt.args[0] for attempt in full_disk.call_args_list]
    assert channels == ["task_log", "task_log", "emails"]
    assert mark_failed.call_count == 1


def test_tasks_after_a_failed_one_are_cancelled(work: Work) -> None:
    jobs: list[Job] = []
    for _ in range(3):
        jobs.append(broker.queue.enqueue(tasks.log_service_event, {}, "x", depends_on=jobs[-1:]))
    work()

    states = [job.get_status() for job in jobs]
    assert states == [JobStatus.FAILED, JobStatus.CANCELED, JobStatus.CANCELED]
    assert "service_name" in reason(jobs[0])


def test_failed_tasks_are_queued_again_and_cancelled_ones_are_not(
    client: TestClient, work: Work, full_disk: Mock, capsys: pytest.CaptureFixture[str]
) -> None:
    full_disk.side_effect = [OSError()] * 5 + [None] * 9
    client.post("/complex-task/")
    (failed_id,) = broker.queue.failed_job_registry.get_job_ids()
    (cancelled_id,) = broker.queue.canceled_job_registry.get_job_ids()
    worker.requeue_failed()
    work()
    assert broker.queue.failed_job_registry.get_job_ids() == [failed_id]
    worker.requeue_failed()
    work()

    assert capsys.readouterr().out == "1 failed jobs are queued again\n" * 2
    assert broker.queue.failed_job_registry.get_job_ids() == []
    assert broker.queue.canceled_job_registry.get_job_ids() == [cancelled_id]
    assert [attempt.args[0] for attempt in full_disk.call_args_list] == ["task_log"] * 6


@pytest.mark.usefixtures("mark_failed")
def test_worker_goes_on_after_a_job_that_is_gone(work: Work, records: Records) -> None:
    broker.queue.enqueue(tasks.write_log, "gone", result_ttl=0)
    broker.enqueue(tasks.write_log, "next")
    work()

    assert records("log") == ["gone", "next"]


def test_worker_goes_on_after_a_job_that_it_cannot_read(work: Work, records: Records) -> None:
    pickled = Queue(connection=broker.queue.connection).enqueue(tasks.write_log, "lost")
    broker.enqueue(tasks.write_log, "next")
    work()

    assert records("log") == ["next"]
    assert broker.queue.failed_job_registry.get_job_ids() == [pickled.id]


def test_worker_runs_and_logs_the_tasks_in_the_queue(
    records: Records, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def work_in_burst(self: Worker, *, with_scheduler: bool) -> None:
        assert with_scheduler  # retries wait in the scheduler
        Worker.work(self, burst=True)

    called = Mock()
    monkeypatch.setattr(logs, "configure", called.logs)
    monkeypatch.setattr(tracing, "configure", called.tracing)
    monkeypatch.setattr(tracing, "flush", called.flush)
    monkeypatch.setattr(worker.TracingWorker, "work", work_in_burst)
    monkeypatch.setattr(Redis, "from_url", lambda _url: broker.queue.connection)
    broker.enqueue(tasks.write_log, "hello")
    failing = broker.queue.enqueue(tasks.log_service_event, {}, "x")
    dependent = broker.queue.enqueue(tasks.write_log, "never", depends_on=failing)
    worker.main()

    assert records("log") == ["hello"]
    assert dependent.get_status() == JobStatus.CANCELED
    assert "Successfully completed write_log job" in caplog.text
    assert "registries" not in caplog.text
    assert called.mock_calls == [call.logs(), call.tracing(), *[call.flush()] * 3]


def test_worker_is_refused_where_records_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sink, "check", Mock(side_effect=OSError("No space left on device")))

    with pytest.raises(SystemExit):
        worker.main()

    assert capsys.readouterr().err == "Cannot start: No space left on device\n"


@pytest.mark.usefixtures("redis_down")
@pytest.mark.parametrize("main", [worker.main, scheduler.main], ids=["worker", "scheduler"])
def test_nothing_starts_without_redis(
    main: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main()

    assert capsys.readouterr().err.startswith("Cannot start: REDIS_URL: ")


def test_round_trip(
    real_redis_url: str, work: Work, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(
        f"test-{uuid.uuid4()}",
        connection=Redis.from_url(real_redis_url),
        serializer=JSONSerializer,
    )
    monkeypatch.setattr(broker, "queue", queue)
    try:
        job = broker.enqueue(tasks.write_log, "hello")
        work()
        job.delete()
    finally:
        queue.delete()

    assert records("log") == ["hello"]
