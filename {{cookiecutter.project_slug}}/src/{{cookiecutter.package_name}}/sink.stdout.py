"""Writes records to standard output, one JSON object a line.

A record is `{"time": "<RFC 3339, UTC>", "channel": "log", "line": "..."}`. Lines neither tear nor
merge, whichever threads and processes share this standard output: a lock keeps writers apart,
because a pipe takes only short writes (PIPE_BUF: 4,096 bytes on Linux, 512 on macOS) in one piece.
Windows has no such lock between processes.
"""

import errno
import json
import logging
import os
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime

from .models import Channel

if sys.platform != "win32":
    import fcntl
    import select

STDOUT = 1
PATIENCE = 1000  # milliseconds that `check` waits for the reader to make room

# JSON allows them in a string, but some readers end the line there.
SEPARATORS = {ord(separator): f"\\u{ord(separator):04x}" for separator in "\x85\u2028\u2029"}

_threads = threading.Lock()


def _record(time: str, channel: Channel, line: str) -> str:
    record = {"time": time, "channel": channel, "line": line}
    return json.dumps(record, ensure_ascii=False).translate(SEPARATORS) + "\n"


def write(channel: Channel, lines: Iterable[str]) -> None:
    """Write one record for each of `lines`.

    Raises OSError if standard output does not take all of them.
    """
    time = datetime.now(UTC).isoformat()
    data = "".join(_record(time, channel, line) for line in lines).encode()
    with _threads:
        if sys.platform != "win32":
            fcntl.lockf(STDOUT, fcntl.LOCK_EX)
        try:
            while data:
                data = data[os.write(STDOUT, data) :]
        finally:
            if sys.platform != "win32":
                fcntl.lockf(STDOUT, fcntl.LOCK_UN)


def check() -> None:
    """Raise an OSError if standard output is closed, or if its reader has gone or makes no room."""
    if sys.__stdout__ is None:
        raise OSError(errno.EBADF, "Standard output is closed")
    if sys.platform != "win32":
        poll = select.poll()
        poll.register(STDOUT, select.POLLOUT)
        events = dict(poll.poll(PATIENCE)).get(STDOUT, 0)
        if events != select.POLLOUT:
            raise OSError(errno.EPIPE, "Nothing reads standard output")


def keep_for_records() -> None:
    """Send uvicorn's access log, for which it uses standard output, to standard error."""
    for handler in logging.getLogger("uvicorn.access").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
