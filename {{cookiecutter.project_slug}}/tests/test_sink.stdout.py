"""Records on standard output."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from {{ cookiecutter.package_name }} import sink

PACKAGE = sink.__package__


def test_record_is_one_object_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    sink.write("log", ["one", 'Grüße 🚀 "quoted"'])

    lines = capfd.readouterr().out.splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first == {"time": first["time"], "channel": "log", "line": "one"}
    assert second["line"] == 'Grüße 🚀 "quoted"'
    assert "Grüße 🚀" in lines[1]
    time = datetime.fromisoformat(first["time"])
    assert time.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)


def test_line_separators_are_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    sink.write("log", ["a\x85b\u2028c\u2029d\ne"])

    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["line"] == "a\x85b\u2028c\u2029d\ne"


def test_threads_do_not_tear_lines(records: Callable[[str], list[str]]) -> None:
    lines = [f"{number} {'x' * 5000}" for number in range(200)]

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda line: sink.write("log", [line]), lines))

    assert sorted(records("log")) == sorted(lines)


def test_processes_do_not_tear_lines() -> None:
    # A pipe takes 9,000 bytes in several pieces, between which another process may write.
    script = f"from {PACKAGE} import sink\nfor _ in range(300): sink.write('log', ['x' * 9000])"
    reader, writer = os.pipe()
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdout=writer) for _ in range(2)]  # noqa: S603
    os.close(writer)

    with os.fdopen(reader, encoding="utf-8") as pipe:
        lines = [json.loads(line)["line"] for line in pipe]

    assert [process.wait() for process in processes] == [0, 0]
    assert lines == ["x" * 9000] * 600


@pytest.fixture
def standard_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Puts a pipe in the place of standard output: the ends to read from and to write to."""
    reader, writer = os.pipe()
    monkeypatch.setattr(sink, "STDOUT", writer)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


def test_check_notices_that_the_reader_has_gone(standard_output: tuple[int, int]) -> None:
    reader, _ = standard_output
    sink.check()
    os.close(reader)

    with pytest.raises(OSError, match="Nothing reads"):
        sink.check()
    with pytest.raises(BrokenPipeError):
        sink.write("log", ["lost"])


def test_check_notices_that_the_reader_has_stopped(
    standard_output: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "PATIENCE", 10)
    _, writer = standard_output
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)

    with pytest.raises(OSError, match="Nothing reads"):
        sink.check()


def test_check_notices_that_standard_output_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)

    with pytest.raises(OSError, match="closed"):
        sink.check()


def test_start_is_refused_without_standard_output() -> None:
    start = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"import {PACKAGE}.main"],
        preexec_fn=lambda: os.close(1),
        stderr=subprocess.PIPE,
        text=True,
    )

    assert start.returncode == 3
    assert start.stderr.startswith("Cannot start: ")
    assert "Standard output is closed" in start.stderr
    assert start.stderr.count("\n") == 1


def test_access_log_leaves_standard_output() -> None:
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger("uvicorn.access").addHandler(handler)

    sink.keep_for_records()
    logging.getLogger("uvicorn.access").removeHandler(handler)

    assert handler.stream is sys.stderr
