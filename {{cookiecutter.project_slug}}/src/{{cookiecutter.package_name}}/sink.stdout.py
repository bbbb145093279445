"""Writes records to standard output, one JSON object a line.

A record is `{"time": "<RFC 3339, UTC>", "channel": "log", "line": "..."}`. Lines neither tear nor
merge, whichever threads and processes share this standard output: each is a write of its own, which
a pipe takes in one piece up to PIPE_BUF (4,096 bytes on Linux, 512 on macOS), and for longer ones a
lock keeps writers apart. Windows, and macOS for pipes, have no such lock between processes.
"""

import errno
import json
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from .models import Channel

if sys.platform != "win32":
    import fcntl
    import select

STDOUT = 1
PATIENCE_MS = 1000  # how long `check` waits for the reader to make room

# JSON allows them in a string, but some readers end the line there.
SEPARATORS = {ord(separator): f"\\u{ord(separator):04x}" for separator in "\x85\u2028\u2029"}

_lock = threading.Lock()


@contextmanager
def _alone() -> Iterator[None]:
    with _lock:
        if sys.platform != "win32":
            with suppress(OSError):
                fcntl.lockf(STDOUT, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if sys.platform != "win32":
                with suppress(OSError):
                    fcntl.lockf(STDOUT, fcntl.LOCK_UN)


def _write_all(data: bytes) -> None:
    while data:
        try:
            data = data[os.write(STDOUT, data) :]
        except BlockingIOError:
            # Whoever shares the pipe has made it non-blocking; wait until there is room.
            select.select([], [STDOUT], [])


def write(channel: Channel, lines: Iterable[str]) -> None:
    """Write one record for each of `lines`.

    Raises OSError if standard output does not take all of them.
    """
    time = datetime.now(UTC).isoformat()
    with _alone():
        for line in lines:
            record = {"time": time, "channel": channel, "line": line}
            text = json.dumps(record, ensure_ascii=False).translate(SEPARATORS)
            _write_all(f"{text}\n".encode())


def check() -> None:
    """Raise an OSError if standard output is closed, or if its reader has gone or makes no room."""
    if sys.__stdout__ is None:
        raise OSError(errno.EBADF, "Standard output is closed")
    os.write(STDOUT, b"")  # fails where only reading is allowed
    if sys.platform != "win32":
        poll = select.poll()
        poll.register(STDOUT, select.POLLOUT)
        events = dict(poll.poll(PATIENCE_MS)).get(STDOUT, 0)
        if events != select.POLLOUT:
            raise OSError(errno.EPIPE, "Nothing reads standard output")


def move_access_log_to_stderr() -> None:
    """Take uvicorn's access log off standard output, so that records are alone there."""
    for handler in logging.getLogger("uvicorn.access").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
