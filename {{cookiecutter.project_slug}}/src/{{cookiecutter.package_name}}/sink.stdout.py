"""Writes records to standard output: one JSON object a line, with `time`, `channel` and `line`.

Under a lock, lines of all threads, and on Linux of all processes, neither tear nor merge.
"""

{% if cookiecutter.engine == "background" %}
import asyncio
{% endif %}
import json
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from .models import Channel

if sys.platform == "linux":
    import fcntl

STDOUT = 1
# Some readers end a line at these.
SEPARATORS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
_threads = threading.Lock()


{% if cookiecutter.engine == "background" %}
async def write(channel: Channel, line: str) -> None:
    """Write a record of `line`; raises OSError if that fails. Only a wait is left to a thread."""
    record = {"time": datetime.now(UTC).isoformat(), "channel": channel, "line": line}
    data = f"{json.dumps(record, ensure_ascii=False).translate(SEPARATORS)}\n".encode()
    try:
        _write(data, wait=False)
    except BlockingIOError:
        await asyncio.to_thread(_write, data, wait=True)


def _write(data: bytes, wait: bool) -> None:
    with _locked(wait):
        if not wait and not _has_room(data):
            raise BlockingIOError("standard output has no room")
{% else %}
def write(channel: Channel, line: str) -> None:
    """Write a record of `line`; raises OSError if that fails."""
    record = {"time": datetime.now(UTC).isoformat(), "channel": channel, "line": line}
    data = f"{json.dumps(record, ensure_ascii=False).translate(SEPARATORS)}\n".encode()
    with _locked():
{% endif %}
        written = 0
        try:
            while written < len(data):
                try:
                    written += os.write(STDOUT, data[written:])
                except BlockingIOError:  # another program has made the pipe non-blocking
{% if cookiecutter.engine == "background" %}
                    if not wait:
                        raise
{% endif %}
                    select.select([], [STDOUT], [])
        except OSError:
            if stat.S_ISREG(os.fstat(STDOUT).st_mode):  # the disk took a part
                os.ftruncate(STDOUT, os.lseek(STDOUT, -written, os.SEEK_CUR))
            raise


@contextmanager
{% if cookiecutter.engine == "background" %}
def _locked(wait: bool) -> Iterator[None]:
    if not _threads.acquire(blocking=wait):
        raise BlockingIOError("another thread writes to standard output")
    try:
        if sys.platform == "linux":
            fcntl.lockf(STDOUT, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        if sys.platform == "linux":
            fcntl.lockf(STDOUT, fcntl.LOCK_UN)
        _threads.release()


def _has_room(data: bytes) -> bool:
    # Linux reports a pipe as writable while it has room for PIPE_BUF bytes, but a terminal for less.
    if sys.platform == "linux" and not os.isatty(STDOUT) and len(data) <= select.PIPE_BUF:
        return select.select([], [STDOUT], [], 0)[1] == [STDOUT]
    return False
{% else %}
def _locked() -> Iterator[None]:
    with _threads:
        if sys.platform == "linux":
            fcntl.lockf(STDOUT, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if sys.platform == "linux":
                fcntl.lockf(STDOUT, fcntl.LOCK_UN)
{% endif %}


def check() -> None:
    """Raise an OSError if standard output is closed, on a full disk, or a pipe that nobody reads."""
    if sys.__stdout__ is None:
        raise OSError("Records cannot be written: standard output is closed")
    os.write(STDOUT, b"")  # fails if standard output is read-only
    if sys.platform != "win32" and stat.S_ISREG(os.fstat(STDOUT).st_mode):
        if not os.fstatvfs(STDOUT).f_bavail:
            raise OSError("Records cannot be written: no space left for standard output")
    if sys.platform == "linux":
        poll = select.poll()
        poll.register(STDOUT, select.POLLOUT)
        if poll.poll(1000) != [(STDOUT, select.POLLOUT)]:
            raise OSError("Records cannot be written: nothing reads standard output")
