"""Records on standard output."""

{% if cookiecutter.engine == "background" %}
import asyncio
{% endif %}
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
{% if cookiecutter.engine == "background" %}
from unittest.mock import AsyncMock
{% endif %}

import pytest

from {{ cookiecutter.package_name }} import sink
{% if cookiecutter.engine == "background" %}
from {{ cookiecutter.package_name }}.models import Channel
{% else %}
from {{ cookiecutter.package_name }}.sink import write
{% endif %}

if sys.platform == "win32":
    pytest.skip("these tests use pipes of Unix", allow_module_level=True)

LONG = 9000  # characters, which a pipe takes in several pieces

of_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this lock")


class Pipe(NamedTuple):
    """The two ends of a pipe."""

    reader: int
    writer: int

    def lines(self) -> list[str]:
        """Read records until nobody can write any more."""
        with os.fdopen(self.reader, encoding="utf-8", closefd=False) as file:
            records = file.read().lstrip("x").splitlines()
        return [json.loads(record)["line"] for record in records]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """A pipe in the place of standard output."""
    pipe = Pipe(*os.pipe())
    monkeypatch.setattr(sink, "STDOUT", pipe.writer)
    yield pipe
    for end in pipe:
        with suppress(OSError):
            os.close(end)


@pytest.fixture
def full_pipe(pipe: Pipe) -> Pipe:
    """A pipe in the place of standard output that has no room for a line."""
    os.set_blocking(pipe.writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe.writer, b"x" * select.PIPE_BUF)
    os.set_blocking(pipe.writer, True)
    return pipe
{% if cookiecutter.engine == "background" %}


def write(channel: Channel, line: str) -> None:
    """Write a record, and wait until it is written."""
    asyncio.run(sink.write(channel, line))
{% endif %}


def test_record_is_one_object_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    write("log", "one")
    write("log", 'Grüße 🚀 "quoted"')

    lines = capfd.readouterr().out.splitlines()
    first, second = map(json.loads, lines)
    assert first == {"time": first["time"], "channel": "log", "line": "one"}
    assert second["line"] == 'Grüße 🚀 "quoted"'
    assert "Grüße 🚀" in lines[1]
    time = datetime.fromisoformat(first["time"])
    assert time.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)


def test_line_separators_are_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    write("log", "a\x85b\u2028c\u2029d\ne")

    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["line"] == "a\x85b\u2028c\u2029d\ne"


@pytest.mark.parametrize("blocking", [True, False])
def test_threads_do_not_tear_lines(pipe: Pipe, blocking: bool) -> None:
    os.set_blocking(pipe.writer, blocking)
    texts = [letter * LONG for letter in "abcdefgh" * 25]

    with ThreadPoolExecutor(max_workers=9) as pool:
        lines = pool.submit(pipe.lines)
        wait([pool.submit(write, "log", text) for text in texts])
        os.close(pipe.writer)

    assert sorted(lines.result()) == sorted(texts)


LOCK = """
import fcntl, sys
fcntl.lockf(sys.stderr, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
sys.stdin.read()
"""


@of_linux
def test_other_processes_can_write_in_between(pipe: Pipe) -> None:
    write("log", "hello")

    subprocess.run(  # noqa: S603
        [sys.executable, "-c", LOCK], stdin=subprocess.DEVNULL, stderr=pipe.writer, check=True
    )


@pytest.fixture
def other_process(pipe: Pipe) -> Iterator[subprocess.Popen[bytes]]:
    """Locks standard output until the test lets it end."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", LOCK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=pipe.writer,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
{% if cookiecutter.engine == "background" %}


@of_linux
def test_wait_for_another_process_is_left_to_a_thread(
    pipe: Pipe, other_process: subprocess.Popen[bytes]
) -> None:
    async def write_and_unlock() -> None:
        writing = asyncio.create_task(sink.write("log", "hello"))
        done, _ = await asyncio.wait([writing], timeout=0.2)
        assert not done
        other_process.communicate()
        await writing

    asyncio.run(write_and_unlock())
    os.close(pipe.writer)

    assert pipe.lines() == ["hello"]


@pytest.mark.parametrize("blocking", [True, False])
def test_wait_for_the_reader_is_left_to_threads(full_pipe: Pipe, blocking: bool) -> None:
    async def write_and_read() -> list[str]:
        os.set_blocking(full_pipe.writer, blocking)
        writing = [asyncio.create_task(sink.write("log", line)) for line in "ab"]
        done, _ = await asyncio.wait(writing, timeout=0.2)
        assert not done
        lines = asyncio.create_task(asyncio.to_thread(full_pipe.lines))
        await asyncio.wait(writing)
        os.close(full_pipe.writer)
        return await lines

    assert sorted(asyncio.run(write_and_read())) == ["a", "b"]


@pytest.mark.usefixtures("pipe")
def test_only_lines_that_may_wait_are_left_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    to_thread = AsyncMock()
    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    write("log", "short")
    assert to_thread.await_count == 0
    write("log", "x" * LONG)
    assert to_thread.await_count == 1
    ends = os.openpty()
    monkeypatch.setattr(sink, "STDOUT", ends[1])
    write("log", "to a terminal")
    assert to_thread.await_count == 2
    for end in ends:
        os.close(end)
{% else %}


@of_linux
def test_write_waits_for_another_process(
    pipe: Pipe, other_process: subprocess.Popen[bytes]
) -> None:
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write, "log", "hello")
        with pytest.raises(TimeoutError):
            writing.result(timeout=0.2)
        other_process.communicate()
        writing.result()
    os.close(pipe.writer)

    assert pipe.lines() == ["hello"]


@pytest.mark.parametrize("blocking", [True, False])
def test_write_waits_for_the_reader(full_pipe: Pipe, blocking: bool) -> None:
    os.set_blocking(full_pipe.writer, blocking)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write, "log", "hello")
        with pytest.raises(TimeoutError):
            writing.result(timeout=0.2)
        lines = pool.submit(full_pipe.lines)
        writing.result()
        os.close(full_pipe.writer)

    assert lines.result() == ["hello"]
{% endif %}


@pytest.fixture
def small_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file in the place of standard output, which cannot grow beyond 1,000 bytes."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "stdout.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(sink, "STDOUT", descriptor)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield path
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    os.close(descriptor)


def test_full_disk_leaves_no_part_of_a_line(small_file: Path) -> None:
    write("log", "x" * 700)
    with pytest.raises(OSError, match="too large"):
        write("log", "y" * 700)
    write("log", "after")

    lines = small_file.read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == ["x" * 700, "after"]


@pytest.mark.usefixtures("small_file")
def test_check_notices_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    sink.check()
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=0))

    with pytest.raises(OSError, match="no space left"):
        sink.check()


def test_check_notices_that_the_reader_has_gone(pipe: Pipe) -> None:
    sink.check()
    os.close(pipe.reader)

    with pytest.raises(OSError, match="nothing reads"):
        sink.check()
    with pytest.raises(BrokenPipeError):
        write("log", "lost")


@pytest.mark.usefixtures("full_pipe")
def test_check_notices_that_the_reader_has_stopped() -> None:
    with pytest.raises(OSError, match="nothing reads"):
        sink.check()


def test_check_notices_that_standard_output_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(sink, "STDOUT", descriptor)

    with pytest.raises(OSError, match="Bad file descriptor"):
        sink.check()
    os.close(descriptor)


def test_check_notices_that_standard_output_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)

    with pytest.raises(OSError, match="closed"):
        sink.check()
