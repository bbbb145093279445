"""Writes records to files: `<RECORDS_DIR>/<channel>.txt`, UTF-8, one line a record.

Lines are appended under a lock, so they never tear or merge; on Windows, only one process may write.
A file is opened for each line, so it may be rotated or removed. Nothing is flushed to the disk.
"""

{% if cookiecutter.engine == "background" %}
import asyncio
{% endif %}
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import get_args

from .models import Channel
from .settings import settings

if sys.platform != "win32":
    import fcntl

FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
LOCK_TIMEOUT = 10  # seconds


{% if cookiecutter.engine == "background" %}
async def write(channel: Channel, line: str) -> None:
    """Append `line` to `channel`; raises OSError if that fails. A thread waits for the lock."""
    try:
        _append(channel, line, lock_timeout=0)
    except BlockingIOError:
        await asyncio.to_thread(_append, channel, line, LOCK_TIMEOUT)


def _append(channel: Channel, line: str, lock_timeout: float) -> None:
    with _locked(channel, lock_timeout) as file:
{% else %}
def write(channel: Channel, line: str) -> None:
    """Append `line` to `channel`; raises OSError if that fails."""
    with _locked(channel, LOCK_TIMEOUT) as file:
{% endif %}
        data = f"{line}\n".encode()
        size = os.lseek(file, 0, os.SEEK_END)
        os.lseek(file, max(size - 1, 0), os.SEEK_SET)
        if os.read(file, 1) not in (b"\n", b""):  # a crash left the last line unfinished
            data = b"\n" + data
        try:
            while data:  # a disk that fills up takes a part first, and fails after that
                data = data[os.write(file, data) :]
        except OSError:
            os.ftruncate(file, size)
            raise


@contextmanager
def _locked(channel: Channel, timeout: float) -> Iterator[int]:
    """Open and lock a channel's file; raises BlockingIOError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        file = _open(f"{settings.records_dir}/{channel}.txt")
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:  # else it was removed before it was locked
                yield file
                return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        finally:
            os.close(file)  # which unlocks it
        time.sleep(0.001)


def _open(path: str) -> int:
    try:
        return os.open(path, FLAGS, 0o660)
    except FileNotFoundError:
        settings.records_dir.mkdir(parents=True, exist_ok=True)
        return os.open(path, FLAGS, 0o660)


def check() -> None:
    """Raise an OSError that names the setting if a channel cannot be written."""
    try:
        size = 0
        for channel in get_args(Channel):
            with _locked(channel, timeout=1) as file:
                size = max(size, os.fstat(file).st_size)
        # A full disk and a limit on file sizes show only when something is written.
        with TemporaryFile(dir=settings.records_dir) as probe:
            probe.seek(size)
            probe.write(b"\n" * 8192)  # more than a line
    except OSError as error:
        raise OSError(f"Records cannot be written: RECORDS_DIR: {error}") from error
