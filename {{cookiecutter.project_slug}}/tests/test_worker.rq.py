"""Tasks in a worker, and those that fail."""

import logging
import signal
import uuid
from collections.abc import Callable
from unittest.mock import Mock, call

import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from redis import Redis
from redis.exceptions import OutOfMemoryError
from rq import Queue, Retry, Worker
from rq.exceptions import StopRequested
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
    monkeypatch.setattr(broker, "RETRY", Retry(max=broker.RETRY.max, interval=[0, 0, 0]))
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
    full_disk.side_effect = [OSError()] * 8 + [None] * 9
    client.post("/complex-task/")
    (failed_id,) = broker.queue.failed_job_registry.get_job_ids()
    (cancelled_id,) = broker.queue.canceled_job_registry.get_job_ids()
    worker.requeue_failed()
    work()
    assert broker.queue.failed_job_registry.get_job_ids() == [failed_id]
    worker.requeue_failed()
    work()

    assert capsys.readouterr().out == "Failed tasks queued again: 1\n" * 2
    assert broker.queue.failed_job_registry.get_job_ids() == []
    assert broker.queue.canceled_job_registry.get_job_ids() == [cancelled_id]
    assert [attempt.args[0] for attempt in full_disk.call_args_list] == ["task_log"] * 9


def test_failed_job_that_expired_does_not_keep_others_from_the_queue(
    work: Work, full_disk: Mock, capsys: pytest.CaptureFixture[str]
) -> None:
    expired, failed = broker.enqueue(tasks.write_log, "1"), broker.enqueue(tasks.write_log, "2")
    work()
    broker.queue.connection.delete(expired.key)
    worker.requeue_failed()

    assert capsys.readouterr().out == "Failed tasks queued again: 1\n"
    assert full_disk.call_count == 8
    assert failed.get_status() == JobStatus.QUEUED


@pytest.mark.usefixtures("redis_down")
def test_failed_tasks_need_redis_to_be_queued_again(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        worker.requeue_failed()

    assert capsys.readouterr().err.startswith("Cannot start: REDIS_URL: ")


@pytest.mark.usefixtures("mark_failed")
def test_worker_goes_on_after_a_job_that_is_gone(work: Work, records: Records) -> None:
    broker.queue.enqueue(tasks.write_log, "gone", result_ttl=0)
    broker.enqueue(tasks.write_log, "next")
    work()

    assert records("log") == ["gone", "next"]


NO_TASKS = [
    "os.system",
    "PACKAGE.sink.os.system",
    "PACKAGE.sink.write",
    "PACKAGE.routes.write_log",
    "PACKAGE.worker.main",
]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *((name.replace("PACKAGE", str(tasks.__package__)), ["secret"]) for name in NO_TASKS),
        (f"{tasks.__name__}.gone", ["secret"]),
        (f"{tasks.__name__}.write_log", []),
        (f"{tasks.__name__}.write_log", ["secret", "../../secret"]),
        (f"{tasks.__name__}.write_log", ["secret", "log", "secret"]),
        (f"{tasks.__name__}.write_log", ["secret\nforged"]),
        (f"{tasks.__name__}.send_email", ["secret", "hello"]),
        (f"{tasks.__name__}.send_email", ["ada@example.com", "secret\nforged"]),
        (f"{tasks.__name__}.log_service_event", [{"service_name": "secret\nforged"}, "x"]),
    ],
)
def test_job_that_cannot_succeed_fails_at_once(
    name: str,
    arguments: list[object],
    work: Work,
    records: Records,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = broker.queue.enqueue(name, *arguments, retry=Retry(max=3))
    work()

    assert job.get_status() == JobStatus.FAILED
    assert caplog.text.count("exception raised while executing") == 1
    assert "secret" not in caplog.text
    assert [records(channel) for channel in ("log", "emails", "service_log")] == [[], [], []]


def test_pickled_job_fails(work: Work, records: Records, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pickling = Queue(broker.queue.name, connection=broker.queue.connection)
    pickled = pickling.enqueue(tasks.write_log, "lost")
    broker.enqueue(tasks.write_log, "next")
    work()

    assert records("log") == ["next"]
    assert broker.queue.failed_job_registry.get_job_ids() == [pickled.id]
    assert "'lost'" not in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "x"), ("worker_name", b"\xff"), ("meta", "[1]"), ("retry_intervals", "[]")],
)
def test_unreadable_jobs_are_put_aside(
    field: str, value: str | bytes, work: Work, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    redis, key = broker.queue.connection, broker.queue.key
    unreadable = broker.enqueue(tasks.write_log, "lost")
    redis.hset(unreadable.key, field, value)
    redis.rpush(key, b"\xff", "no key", "text")
    redis.set(Job.key_for("text"), "no hash")
    redis.rpush(broker.queue.intermediate_queue_key, b"\xfe")  # taken by a worker that was killed
    broker.enqueue(tasks.write_log, "next")
    work()

    aside = [b"\xfe", unreadable.id.encode(), b"\xff", b"no key", b"text"]
    assert redis.lrange(f"{key}:unreadable", 0, -1) == aside
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 5
    assert records("log") == ["next"]
    assert not redis.exists(broker.queue.intermediate_queue_key)


def test_unreadable_registry_does_not_stop_tasks(work: Work, records: Records) -> None:
    redis, registry = broker.queue.connection, broker.queue.started_job_registry
    redis.hset(Job.key_for("garbage"), mapping={"data": "[]", "status": "garbage"})
    redis.zadd(registry.key, {"garbage:execution": 1})
    broker.enqueue(tasks.write_log, "next")
    work()

    assert records("log") == ["next"]


def test_other_errors_are_not_taken_for_unreadable_jobs(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "reorder_queues", Mock(side_effect=KeyError))
    broker.enqueue(tasks.write_log, "taken")
    work()

    assert not broker.queue.connection.exists(f"{broker.queue.key}:unreadable")
    assert broker.queue.intermediate_queue.get_job_ids()


def test_retry_that_is_not_scheduled_is_not_lost(
    work: Work, full_disk: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = broker.queue.enqueue(tasks.write_log, "hello", retry=Retry(max=3, interval=5))
    monkeypatch.setattr(Queue, "schedule_job", Mock(side_effect=broker.BrokerError))
    work()

    full_disk.assert_called_once()
    assert job.get_status() == JobStatus.STARTED  # which RQ retries when the heartbeats end


def test_killed_worker_does_not_stop_maintenance_for_long(work: Work) -> None:
    lock = broker.queue.registry_cleaning_key
    broker.queue.acquire_maintenance_lock()
    work()

    assert broker.queue.connection.ttl(lock) <= 60


@pytest.mark.parametrize("method", ["dequeue_job_and_maintain_ttl", "execute_job"])
def test_worker_waits_while_redis_is_full(
    method: str, work: Work, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(Worker, method)
    refusals = iter([OutOfMemoryError("maxmemory")])

    def refuse_once(*args: object) -> object:
        for refusal in refusals:
            raise refusal
        return original(*args)

    monkeypatch.setattr(Worker, method, refuse_once)
    sleep = Mock()
    monkeypatch.setattr("time.sleep", sleep)
    broker.enqueue(tasks.write_log, "first")
    broker.enqueue(tasks.write_log, "second")
    work()

    if method == "execute_job":  # the first is retried as after a worker that was killed
        assert records("log") == ["second"]
        assert len(broker.queue.intermediate_queue.get_job_ids()) == 1
    else:
        assert records("log") == ["first", "second"]
        sleep.assert_called_once()


def test_worker_runs_and_logs_the_tasks_in_the_queue(
    records: Records, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def work_in_burst(self: worker.TaskWorker, *, with_scheduler: bool) -> None:
        assert with_scheduler  # retries wait in the scheduler
        Worker.work(self, burst=True)
        with pytest.raises(StopRequested):
            self.request_stop(signal.SIGTERM, None)

    called = Mock()
    monkeypatch.setattr(signal, "signal", Mock())
    monkeypatch.setattr(logs, "configure", called.logs)
    monkeypatch.setattr(tracing, "configure", called.tracing)
    monkeypatch.setattr(tracing, "flush", called.flush)
    monkeypatch.setattr(worker.TaskWorker, "work", work_in_burst)
    monkeypatch.setattr(Redis, "from_url", lambda _url: broker.queue.connection)
    broker.enqueue(tasks.write_log, "hello")
    failing = broker.queue.enqueue(tasks.log_service_event, {}, "x")
    dependent = broker.queue.enqueue(tasks.write_log, "never", depends_on=failing)
    worker.main()

    assert records("log") == ["hello"]
    assert dependent.get_status() == JobStatus.CANCELED
    assert ".tasks.write_log job in " in caplog.text
    assert "registries" not in caplog.text
    assert not any(hasattr(record, "arguments") for record in caplog.records)
    assert called.mock_calls == [call.logs(), call.tracing(), *[call.flush()] * 3]


def test_worker_that_nobody_stops_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", Mock())
    monkeypatch.setattr(Redis, "from_url", lambda _url: broker.queue.connection)
    monkeypatch.setattr(Worker, "work", Mock())

    with pytest.raises(SystemExit) as end:
        worker.main()

    assert end.value.code == 1


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
