"""Records in files."""

{% if cookiecutter.engine == "background" %}
import asyncio
{% endif %}
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from {{ cookiecutter.package_name }} import sink
{% if cookiecutter.engine == "background" %}
from {{ cookiecutter.package_name }}.models import Channel
{% else %}
from {{ cookiecutter.package_name }}.sink import write
{% endif %}

Records = Callable[[str], list[str]]

FILE = Path("records/log.txt")
{% if cookiecutter.engine == "background" %}


def write(channel: Channel, line: str) -> None:
    """Write a line, and wait until it is written."""
    asyncio.run(sink.write(channel, line))
{% endif %}


def test_lines_are_appended_as_they_are() -> None:
    write("log", "one")
    write("log", "Grüße 🚀")

    assert FILE.read_bytes() == "one\nGrüße 🚀\n".encode()


def test_threads_do_not_tear_lines(records: Records) -> None:
    lines = [f"{number} {'x' * 5000}" for number in range(200)]

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda line: write("log", line), lines))

    assert sorted(records("log")) == sorted(lines)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_file_is_closed_to_others() -> None:
    umask = os.umask(0o020)
    write("log", "hello")
    os.umask(umask)

    assert stat.S_IMODE(FILE.stat().st_mode) == 0o640


def test_unfinished_line_is_ended(records: Records) -> None:
    write("log", "whole")
    with FILE.open("a") as file:
        file.write("unfini")
    sink.check()
    write("log", "after")

    assert records("log") == ["whole", "unfini", "after"]


def test_folder_removed_before_the_lock_is_made_anew(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = fcntl.flock

    def remove_and_lock(file: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        shutil.rmtree("records")
        lock(file, operation)

    write("log", "before")
    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    write("log", "after")

    assert records("log") == ["after"]


@pytest.fixture
def locked_file() -> Iterator[IO[bytes]]:
    """A file that another program has locked, until the test closes it."""
    fcntl = pytest.importorskip("fcntl")
    write("log", "before")
    with FILE.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


{% if cookiecutter.engine == "background" %}
def test_locked_file_is_left_to_a_thread(locked_file: IO[bytes], records: Records) -> None:
    async def write_and_unlock() -> None:
        writing = asyncio.create_task(sink.write("log", "after"))
        done, _ = await asyncio.wait([writing], timeout=0.2)
        assert not done
        locked_file.close()
        await writing

    asyncio.run(write_and_unlock())

    assert records("log") == ["before", "after"]
{% else %}
def test_write_waits_for_the_lock(locked_file: IO[bytes], records: Records) -> None:
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write, "log", "after")
        with pytest.raises(TimeoutError):
            writing.result(timeout=0.2)
        locked_file.close()
        writing.result(timeout=5)

    assert records("log") == ["before", "after"]
{% endif %}


@pytest.mark.usefixtures("locked_file")
def test_wait_for_the_lock_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "LOCK_TIMEOUT", 0.1)

    with pytest.raises(BlockingIOError):
        write("log", "lost")
    with pytest.raises(OSError, match="RECORDS_DIR"):
        sink.check()


@pytest.fixture
def small_files() -> Iterator[None]:
    """Lets no file grow beyond 10,000 bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_full_disk_leaves_no_part_of_a_line(records: Records) -> None:
    write("log", "x" * 7000)
    with pytest.raises(OSError, match="too large"):
        write("log", "y" * 7000)
    with pytest.raises(OSError, match=r"RECORDS_DIR: .*too large"):
        sink.check()
    write("log", "after")

    assert records("log") == ["x" * 7000, "after"]
