"""Writes records to standard output, one JSON object a line.

A record is `{"time": "<RFC 3339, UTC>", "channel": "log", "line": "..."}`. Lines neither tear nor
merge, whichever threads and processes share this standard output: each is a write of its own, which
a pipe takes in one piece up to PIPE_BUF (4,096 bytes on Linux, 512 on macOS), and for longer ones a
lock keeps writers apart. Only Linux has such a lock between processes.
"""

import errno
import json
import os
import select
import stat
import sys
import threading
import time
from datetime import UTC, datetime

from .models import Channel

if sys.platform == "linux":
    import fcntl

STDOUT = 1
TERMINAL = os.isatty(STDOUT)  # which tells that it has room when it has less than a line's
WRITER_PATIENCE = 0.001  # seconds that `write` takes for another writer, if it is not to wait
READER_PATIENCE_MS = 1000  # how long `check` waits for the reader to make room

# JSON allows them in a string, but some readers end the line there.
SEPARATORS = {ord(separator): f"\\u{ord(separator):04x}" for separator in "\x85\u2028\u2029"}

_encode = json.JSONEncoder(ensure_ascii=False).encode
_lock = threading.Lock()


def write(channel: Channel, line: str, *, wait: bool = True) -> None:
    """Write a record of `line`.

    Raises OSError if standard output does not take all of it; and BlockingIOError if not to `wait`
    for another writer, beyond a millisecond, or for the reader of a pipe to make room.
    """
    now = datetime.now(UTC).isoformat()
    text = _encode(line).translate(SEPARATORS)
    # Put together by hand: half the cost of encoding a dict.
    members = f'"time": "{now}", "channel": "{channel}", "line": {text}'
    data = ("{" + members + "}\n").encode()
    if not _lock.acquire(timeout=-1 if wait else WRITER_PATIENCE):
        raise BlockingIOError(errno.EAGAIN, "Another thread writes to standard output")
    try:
        _lock_processes_out(wait)
        try:
            if not wait:
                _require_room(data)
            _write_all(data, wait)
        finally:
            if sys.platform == "linux":
                fcntl.lockf(STDOUT, fcntl.LOCK_UN)
    finally:
        _lock.release()


def _lock_processes_out(wait: bool) -> None:
    if sys.platform == "linux":
        deadline = time.monotonic() + WRITER_PATIENCE
        while True:
            try:
                fcntl.lockf(STDOUT, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # They are done in microseconds, unless they wait for the reader.
                if time.monotonic() > deadline:
                    raise
                time.sleep(WRITER_PATIENCE / 10_000)


def _require_room(data: bytes) -> None:
    # A pipe is ready when it has room for PIPE_BUF bytes.
    roomy = sys.platform == "linux" and not TERMINAL and len(data) <= select.PIPE_BUF
    if not roomy or not select.select([], [STDOUT], [], 0)[1]:
        raise BlockingIOError(errno.EAGAIN, "Standard output has no room")


def _write_all(data: bytes, wait: bool) -> None:
    written = 0
    try:
        while written < len(data):
            try:
                written += os.write(STDOUT, data[written:])
            except BlockingIOError:
                # Whoever shares the pipe has made it non-blocking, and perhaps has just filled it.
                if not wait:
                    raise
                select.select([], [STDOUT], [])
    except OSError:
        # A full disk has taken a part.
        if written and stat.S_ISREG(os.fstat(STDOUT).st_mode):
            os.ftruncate(STDOUT, os.lseek(STDOUT, -written, os.SEEK_CUR))
        raise


def check() -> None:
    """Raise an OSError if standard output is closed, on a full disk, or a pipe that nobody reads."""
    if sys.__stdout__ is None:
        raise OSError(errno.EBADF, "Standard output is closed")
    os.write(STDOUT, b"")  # fails where only reading is allowed
    if stat.S_ISREG(os.fstat(STDOUT).st_mode) and sys.platform != "win32":
        if not os.fstatvfs(STDOUT).f_bavail:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if sys.platform == "linux":
        poll = select.poll()
        poll.register(STDOUT, select.POLLOUT)
        if poll.poll(READER_PATIENCE_MS) != [(STDOUT, select.POLLOUT)]:
            raise OSError(errno.EPIPE, "Nothing reads standard output")
