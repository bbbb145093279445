"""Tasks in a worker, and those that fail."""

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import celery.worker.state
import pytest
from celery.signals import celeryd_init, setup_logging, worker_process_shutdown
from celery.utils.time import get_exponential_backoff_interval
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis import Redis

from {{ cookiecutter.package_name }} import logs, routes, sink, tasks, tracing, worker
from {{ cookiecutter.package_name }}.broker import PREFIX, redis

Records = Callable[[str], list[str]]


@pytest.fixture
def configure_logs(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Leaves the log to pytest."""
    configure = Mock()
    monkeypatch.setattr(logs, "configure", configure)
    return configure


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Keeps the spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


@contextmanager
def run_worker(queue: str = "celery") -> Iterator[None]:
    """Run the tasks of a queue in a thread."""
    app: Any = worker.app
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(app.conf, "task_always_eager", False)
        patch.setitem(app.conf, "worker_enable_remote_control", False)
        controller = app.WorkController(
            pool="solo", queues=[queue], without_mingle=True, without_gossip=True
        )
        thread = threading.Thread(target=controller.start, daemon=True)
        thread.start()
        yield
        patch.setattr(celery.worker.state, "should_stop", 0)
        thread.join(timeout=10)


def wait_for(condition: Callable[[], object]) -> None:
    """Return as soon as `condition()` is true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("configure_logs")
def test_task_belongs_to_its_request(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = Mock(side_effect=lambda *_: written.append(logs.request_id.get()))
    written: list[str | None] = []
    monkeypatch.setattr(sink, "write", write)
    with run_worker():
        token = logs.request_id.set("4711")
        with trace.get_tracer("server").start_as_current_span("request"):
            tasks.write_log.delay("hello")
        logs.request_id.reset(token)
        wait_for(lambda: len(spans.get_finished_spans()) == 2)

    assert written == ["4711"]
    request, task = spans.get_finished_spans()
    assert task.parent
    assert request.context
    assert task.parent.span_id == request.context.span_id
    assert task.status.is_ok
    assert re.search(rf"Task {tasks.__name__}.write_log\[\S+\] started", caplog.text)


@pytest.mark.usefixtures("configure_logs")
def test_failing_task_is_retried_and_kept_with_its_chain(
    spans: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = Mock(side_effect=[OSError(), OSError(), OSError(), OSError(), None, None])
    monkeypatch.setattr(sink, "write", write)
    delays: list[int] = []

    def delay(**options: Any) -> int:
        delays.append(get_exponential_backoff_interval(**options))
        return 0

    monkeypatch.setattr("celery.app.autoretry.get_exponential_backoff_interval", delay)
    with run_worker():
        routes.complex_task()
        wait_for(lambda: redis.llen(f"{PREFIX}failed"))
    assert write.call_count == 4
    worker.requeue_failed()
    assert capsys.readouterr().out == "Failed tasks queued again: 1\n"
    with run_worker():
        wait_for(lambda: len(spans.get_finished_spans()) == 6)

    assert delays[:3] == [5, 10, 20]
    assert [call.args[0] for call in write.call_args_list] == ["task_log"] * 5 + ["emails"]
    assert [span.status.is_ok for span in spans.get_finished_spans()] == [False] * 4 + [True] * 2


@pytest.mark.usefixtures("configure_logs")
def test_task_that_cannot_succeed_is_kept_at_once(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    with run_worker():
        for wrong in [(), ("secret", "../../x"), ("secret\nforged",)]:
            worker.app.send_task(tasks.write_log.name, wrong)
        worker.app.send_task(tasks.send_email.name, ("secret", "hello"))
        worker.app.send_task(tasks.log_service_event.name, ({"service_name": "secret\n"}, "hello"))
        worker.app.send_task("unknown", ("secret",))
        worker.app.send_task(tasks.write_log.name, ("secret",), headers={"eta": "never"})
        with worker.app.connection_for_write() as connection:
            queue = connection.SimpleQueue("celery")
            queue.put("no task")
            queue.put([["no task"], {}, {}])
        wait_for(lambda: redis.llen(f"{PREFIX}failed") == 9)
        tasks.write_log.delay("hello")
        wait_for(lambda: records("log") == ["hello"])

    assert "Task unknown[" in caplog.text
    assert "secret" not in caplog.text
    assert redis.hlen(f"{PREFIX}unacked") == 0


@pytest.mark.usefixtures("configure_logs")
def test_task_that_runs_out_of_memory_leaves_its_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sink, "write", write := Mock(side_effect=[*[MemoryError] * 4, None]))
    monkeypatch.setattr("celery.app.autoretry.get_exponential_backoff_interval", lambda **_: 0)
    with run_worker():
        tasks.write_log.delay("hello")
        wait_for(lambda: redis.llen(f"{PREFIX}failed"))
        tasks.write_log.delay("hello")
        wait_for(lambda: write.call_count == 5)

    assert "ran out of memory" in caplog.text


@pytest.mark.usefixtures("redis_down")
def test_failed_tasks_need_redis_to_be_queued_again(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        worker.requeue_failed()

    assert "Cannot start: REDIS_URL: " in capsys.readouterr().err  # where the server logs, too


def test_worker_is_prepared(configure_logs: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    configure, flush = Mock(), Mock()
    monkeypatch.setattr(tracing, "configure", configure)
    monkeypatch.setattr(tracing, "flush", flush)
    monkeypatch.setattr(worker.app, "conf", worker.app.conf.copy())
    setup_logging.send(sender=None)
    configure_logs.assert_called_once()
    celeryd_init.send(sender=None, instance=None, conf=None, options={})
    worker_process_shutdown.send(sender=None)

    configure.assert_called_once()
    flush.assert_called_once()
    assert worker.app.conf.broker_transport_options["socket_timeout"] == 10


@pytest.mark.usefixtures("configure_logs")
def test_worker_is_refused_where_records_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sink, "check", Mock(side_effect=OSError("No space left on device")))

    with pytest.raises(SystemExit):
        celeryd_init.send(sender=None, instance=None, conf=None, options={})

    assert capsys.readouterr().err == "Cannot start: No space left on device\n"


def test_round_trip(real_redis_url: str, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = f"test-{uuid.uuid4()}"
    monkeypatch.setitem(worker.app.conf, "broker_url", real_redis_url)
    with run_worker(queue), worker.app.connection_for_write() as connection:
        name = tasks.write_log.name
        worker.app.send_task(name, ("hello",), queue=queue, connection=connection)
        wait_for(lambda: records("log") == ["hello"])

    client = Redis.from_url(real_redis_url)
    for key in client.scan_iter(f"*{queue}*"):
        client.delete(key)
