"""Records in files."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, get_args

import pytest

from {{ cookiecutter.package_name }} import sink
from {{ cookiecutter.package_name }}.models import Channel

PACKAGE = sink.__package__


def test_lines_are_appended_as_they_are(log_dir: Path) -> None:
    sink.write("log", "one")
    sink.write("log", "Grüße 🚀")

    assert (log_dir / "log.txt").read_bytes() == "one\nGrüße 🚀\n".encode()


def test_threads_do_not_tear_lines(records: Callable[[str], list[str]]) -> None:
    lines = [f"{number} {'x' * 5000}" for number in range(200)]

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda line: sink.write("log", line), lines))

    assert sorted(records("log")) == sorted(lines)


def test_removed_folder_is_made_anew(log_dir: Path, records: Callable[[str], list[str]]) -> None:
    sink.write("log", "before")
    (log_dir / "log.txt").unlink()
    log_dir.rmdir()
    sink.write("log", "after")

    assert records("log") == ["after"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """Lets no file grow beyond 10,000 bytes, as a disk that is full."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_write_that_fails_leaves_nothing_behind(records: Callable[[str], list[str]]) -> None:
    sink.write("log", "x" * 7000)
    with pytest.raises(OSError, match="too large"):
        sink.write("log", "y" * 7000)
    sink.write("log", "after")

    assert records("log") == ["x" * 7000, "after"]


def test_writers_wait_for_each_other(log_dir: Path, records: Callable[[str], list[str]]) -> None:
    fcntl = pytest.importorskip("fcntl")
    sink.write("log", "before")
    with ThreadPoolExecutor() as pool, (log_dir / "log.txt").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = pool.submit(sink.write, "log", "waited")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        fcntl.flock(other, fcntl.LOCK_UN)
        waiting.result(timeout=10)

    assert records("log") == ["before", "waited"]


def test_does_not_wait_for_other_processes_unless_told_to(log_dir: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    sink.write("log", "before", wait=False)
    with (log_dir / "log.txt").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        started = time.monotonic()
        with pytest.raises(BlockingIOError):
            sink.write("log", "refused", wait=False)
        assert time.monotonic() - started < 5  # of the 10 seconds that others wait
        with pytest.raises(OSError, match="LOG_DIR"):
            sink.check()


def test_file_removed_while_others_lock_it_is_made_anew(
    log_dir: Path, records: Callable[[str], list[str]]
) -> None:
    fcntl = pytest.importorskip("fcntl")
    sink.write("log", "before")
    with ThreadPoolExecutor() as pool, (log_dir / "log.txt").open() as removed:
        fcntl.flock(removed, fcntl.LOCK_EX)
        waiting = pool.submit(sink.write, "log", "hello")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        (log_dir / "log.txt").unlink()
        fcntl.flock(removed, fcntl.LOCK_UN)
        waiting.result(timeout=10)

    assert records("log") == ["hello"]


def test_file_removed_before_it_is_locked_is_made_anew(
    log_dir: Path, records: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = fcntl.flock

    def remove_and_lock(file: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        (log_dir / "log.txt").unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    sink.write("log", "hello")

    assert records("log") == ["hello"]


def test_pipe_that_nobody_reads_fails(log_dir: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes that have a name")
    log_dir.mkdir()
    os.mkfifo(log_dir / "log.txt")

    with pytest.raises(OSError, match="No such device"):
        sink.write("log", "lost")


@pytest.mark.parametrize("channel", get_args(Channel))
def test_line_left_unfinished_is_ended(
    channel: Channel, log_dir: Path, records: Callable[[str], list[str]]
) -> None:
    sink.write(channel, "whole")
    with (log_dir / f"{channel}.txt").open("a") as file:
        file.write("unfini")
    sink.check()
    sink.check()
    sink.write(channel, "after")

    assert records(channel) == ["whole", "unfini", "after"]


@pytest.mark.usefixtures("small_files")
def test_check_notices_that_a_file_may_not_grow() -> None:
    sink.write("log", "x" * 9990)

    with pytest.raises(OSError, match="LOG_DIR: File too large"):
        sink.check()


def test_check_notices_a_full_disk(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> NoReturn:
        assert options == {"dir": log_dir}
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sink, "TemporaryFile", refuse)

    with pytest.raises(OSError, match="LOG_DIR: No space left"):
        sink.check()


def test_check_makes_the_folder(log_dir: Path) -> None:
    sink.check()

    assert log_dir.is_dir()


def test_check_names_the_setting(log_dir: Path) -> None:
    log_dir.touch()

    with pytest.raises(OSError, match="LOG_DIR"):
        sink.check()


def test_write_to_a_channel_that_is_a_folder_raises(log_dir: Path) -> None:
    (log_dir / "log.txt").mkdir(parents=True)

    with pytest.raises(OSError, match="directory"):
        sink.write("log", "lost")


def test_start_is_refused_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()

    start = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"import {PACKAGE}.main"],
        cwd=tmp_path,
        env=os.environ | {"LOG_DIR": str(tmp_path / "occupied")},
        capture_output=True,
        text=True,
    )

    assert start.returncode == 3
    assert start.stderr.startswith("Cannot start: ")
    assert "LOG_DIR" in start.stderr
    assert start.stderr.count("\n") == 1
