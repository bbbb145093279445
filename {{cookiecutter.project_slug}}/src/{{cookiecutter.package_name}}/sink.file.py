"""Writes records to files: `<LOG_DIR>/<channel>.txt`, UTF-8, one line a record.

A line reaches the operating system in one `write` on a descriptor that appends, so lines neither
tear nor merge, whichever threads and processes of this machine write at the same time. A write that
fails leaves nothing of its line behind. The file is opened for each line: one that was rotated
away, or a folder that was removed, is made anew. Nothing is flushed to the disk itself. Windows has
no such appending and no such lock: there, this holds for the threads of one process.
"""

import os
import sys
from tempfile import TemporaryFile
from typing import get_args

from .models import Channel
from .settings import settings

if sys.platform != "win32":
    import fcntl

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


def _open_for_append(channel: Channel) -> int:
    path = settings.log_dir / f"{channel}.txt"
    try:
        return os.open(path, APPEND, 0o666)
    except FileNotFoundError:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        return os.open(path, APPEND, 0o666)


def write(channel: Channel, line: str) -> None:
    """Append `line`, which holds no line separator, to `channel`.

    Raises OSError if the operating system does not take all of it.
    """
    data = f"{line}\n".encode()
    file = _open_for_append(channel)
    try:
        # Nobody may append before a write that failed in the middle is undone. Closing unlocks.
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        _write_all(file, data)
    finally:
        os.close(file)


def _write_all(file: int, data: bytes) -> None:
    written = 0
    try:
        # A full disk takes a part at first, and says why at the second attempt.
        while written < len(data):
            written += os.write(file, data[written:])
    except OSError:
        if written:
            os.ftruncate(file, os.fstat(file).st_size - written)
        raise


def check() -> None:
    """Raise an OSError that names the setting if some channel cannot be written."""
    try:
        for channel in get_args(Channel):
            os.close(_open_for_append(channel))
        # A full disk shows only when something is written.
        with TemporaryFile(dir=settings.log_dir, buffering=0) as probe:
            probe.write(b"\n")
    except OSError as error:
        raise OSError(f"LOG_DIR: {error.strerror}: {settings.log_dir}") from error
