"""Records on standard output."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from {{ cookiecutter.package_name }} import sink

if sys.platform == "win32":
    pytest.skip("pipes are made with what Unix offers", allow_module_level=True)

import pty

PACKAGE = sink.__package__


def test_record_is_one_object_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    sink.write("log", "one")
    sink.write("log", 'Grüße 🚀 "quoted"')

    lines = capfd.readouterr().out.splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first == {"time": first["time"], "channel": "log", "line": "one"}
    assert second["line"] == 'Grüße 🚀 "quoted"'
    assert "Grüße 🚀" in lines[1]
    time = datetime.fromisoformat(first["time"])
    assert time.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)


def test_line_separators_are_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    sink.write("log", "a\x85b\u2028c\u2029d\ne")

    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["line"] == "a\x85b\u2028c\u2029d\ne"


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Puts a pipe in the place of standard output: the ends to read from and to write to."""
    reader, writer = os.pipe()
    monkeypatch.setattr(sink, "STDOUT", writer)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


def lines_of(reader: int) -> list[str]:
    """Read records until nobody writes any more."""
    with os.fdopen(reader, encoding="utf-8") as lines:
        return [json.loads(line)["line"] for line in lines]


# A pipe takes texts of this length in several pieces, between which another writer may come.
LONG = 9000


@pytest.mark.parametrize("blocking", [True, False])
def test_threads_do_not_tear_lines(pipe: tuple[int, int], blocking: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    texts = [letter * LONG for letter in "abcdefgh" * 25]

    with ThreadPoolExecutor(max_workers=9) as pool:
        read = pool.submit(lines_of, reader)
        list(pool.map(lambda text: sink.write("log", text), texts))
        os.close(writer)

    assert sorted(read.result()) == sorted(texts)


def test_processes_do_not_tear_lines() -> None:
    reader, writer = os.pipe()
    script = f"from {PACKAGE} import sink; [sink.write('log', '%s' * {LONG}) for _ in range(300)]"
    processes = [
        subprocess.Popen([sys.executable, "-c", script % letter], stdout=writer)  # noqa: S603
        for letter in "abc"
    ]
    os.close(writer)
    lines = lines_of(reader)

    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sorted(lines) == sorted([letter * LONG for letter in "abc"] * 300)


def fill(writer: int) -> None:
    """Leave no room in a pipe."""
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * select.PIPE_BUF)
    os.set_blocking(writer, True)


def test_does_not_wait_for_the_reader_unless_told_to(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    sink.write("log", "before", wait=False)
    with pytest.raises(BlockingIOError, match="no room"):
        sink.write("log", "x" * LONG, wait=False)
    first = os.read(reader, 1000)
    fill(writer)
    with pytest.raises(BlockingIOError, match="no room"):
        sink.write("log", "refused", wait=False)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(sink.write, "log", "waited")
        while not sink._lock.locked():
            assert not waiting.done()
        with pytest.raises(BlockingIOError, match="Another thread"):
            sink.write("log", "refused", wait=False)
        rest = b""
        while not rest.endswith(b"\n"):
            rest += os.read(reader, 65536)
        waiting.result()

    assert json.loads(first)["line"] == "before"
    assert json.loads(rest.lstrip(b"x"))["line"] == "waited"


@pytest.fixture
def small_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Puts a file in the place of standard output, which may not grow beyond 1,000 bytes."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "stdout.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(sink, "STDOUT", descriptor)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield path
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    os.close(descriptor)


def test_write_that_fails_leaves_nothing_behind_in_a_file(small_file: Path) -> None:
    sink.write("log", "x" * 700)
    with pytest.raises(OSError, match="too large"):
        sink.write("log", "y" * 700)
    sink.write("log", "after")

    lines = small_file.read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == ["x" * 700, "after"]


@pytest.mark.usefixtures("small_file")
def test_check_notices_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    sink.check()
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=0))

    with pytest.raises(OSError, match="No space left"):
        sink.check()


def test_waits_for_the_reader_of_a_pipe_that_does_not_block(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fill(writer)
    os.set_blocking(writer, False)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(sink.write, "log", "waited")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        rest = b""
        while not rest.endswith(b"\n"):
            rest += os.read(reader, 65536)
        waiting.result()

    assert json.loads(rest.lstrip(b"x"))["line"] == "waited"


def test_does_not_wait_for_room_that_another_process_has_just_taken(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer = pipe
    fill(writer)
    os.set_blocking(writer, False)
    monkeypatch.setattr(sink, "_require_room", lambda _: None)

    with pytest.raises(BlockingIOError):
        sink.write("log", "refused", wait=False)


HOLD = """
import fcntl, sys
fcntl.lockf(sys.stderr, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


of_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a lock")


def hold(writer: int) -> subprocess.Popen[bytes]:
    """Start a process that keeps others from writing."""
    holder = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
    )
    assert holder.stdout
    holder.stdout.readline()
    return holder


@of_linux
def test_other_processes_may_write_in_between(pipe: tuple[int, int]) -> None:
    sink.write("log", "hello")
    lock = "import fcntl, sys; fcntl.lockf(sys.stderr, fcntl.LOCK_EX | fcntl.LOCK_NB)"

    subprocess.run([sys.executable, "-c", lock], stderr=pipe[1], check=True)  # noqa: S603


@of_linux
def test_does_not_wait_for_another_process_unless_told_to(pipe: tuple[int, int]) -> None:
    holder = hold(pipe[1])
    with pytest.raises(BlockingIOError):
        sink.write("log", "refused", wait=False)
    holder.communicate()
    sink.write("log", "taken", wait=False)

    assert json.loads(os.read(pipe[0], 1000))["line"] == "taken"


@of_linux
def test_takes_a_moment_for_another_process(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    monkeypatch.setattr(sink, "WRITER_PATIENCE", 60)
    holder = hold(writer)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(sink.write, "log", "a moment later", wait=False)
        with pytest.raises(TimeoutError):
            writing.result(timeout=0.2)
        holder.communicate()
        writing.result()

    assert json.loads(os.read(reader, 1000))["line"] == "a moment later"


def test_takes_a_moment_for_another_thread(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "WRITER_PATIENCE", 60)
    with ThreadPoolExecutor() as pool:
        with sink._lock:
            writing = pool.submit(sink.write, "log", "a moment later", wait=False)
            with pytest.raises(TimeoutError):
                writing.result(timeout=0.2)
        writing.result()

    assert json.loads(os.read(pipe[0], 1000))["line"] == "a moment later"


def test_does_not_wait_for_a_terminal_unless_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    monkeypatch.setattr(sink, "STDOUT", writer)
    monkeypatch.setattr(sink, "TERMINAL", os.isatty(writer))

    with pytest.raises(BlockingIOError, match="no room"):
        sink.write("log", "refused", wait=False)
    sink.write("log", "waited")

    assert json.loads(os.read(reader, 1000))["line"] == "waited"
    os.close(reader)
    os.close(writer)


def test_check_notices_that_the_reader_has_gone(pipe: tuple[int, int]) -> None:
    reader, _ = pipe
    sink.check()
    os.close(reader)

    with pytest.raises(OSError, match="Nothing reads"):
        sink.check()
    with pytest.raises(BrokenPipeError):
        sink.write("log", "lost")


def test_check_notices_that_the_reader_has_stopped(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "READER_PATIENCE_MS", 10)
    _, writer = pipe
    fill(writer)

    with pytest.raises(OSError, match="Nothing reads"):
        sink.check()


def test_check_notices_that_standard_output_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)

    with pytest.raises(OSError, match="closed"):
        sink.check()


def test_check_notices_that_standard_output_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(sink, "STDOUT", descriptor)

    with pytest.raises(OSError, match="Bad file descriptor"):
        sink.check()
    os.close(descriptor)


def test_start_is_refused_without_standard_output(tmp_path: Path) -> None:
    start = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"import {PACKAGE}.main"],
        cwd=tmp_path,
        preexec_fn=lambda: os.close(1),
        stderr=subprocess.PIPE,
        text=True,
    )

    assert start.returncode == 3
    assert start.stderr.startswith("Cannot start: ")
    assert "Standard output is closed" in start.stderr
    assert start.stderr.count("\n") == 1
