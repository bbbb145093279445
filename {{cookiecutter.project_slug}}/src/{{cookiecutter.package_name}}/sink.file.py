"""Writes records to files: `<LOG_DIR>/<channel>.txt`, UTF-8, one line a record.

A line reaches the operating system in one `write` on a descriptor that appends, under a lock, so
lines neither tear nor merge, whichever threads and processes of this machine write at the same time.
A write that fails leaves nothing of its line behind; what a crash leaves behind, `check` ends. The
file is opened for each line: one that was rotated away, or a folder that was removed, is made anew.
Nothing is flushed to the disk itself. Windows has no such appending and no such lock: there, this
holds for the threads of one process.
"""

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import get_args

from .models import Channel
from .settings import settings

if sys.platform != "win32":
    import fcntl

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
if sys.platform == "win32":
    APPEND |= os.O_BINARY
else:
    # What is no file, a pipe for instance, fails rather than waits for a reader.
    APPEND |= os.O_NONBLOCK

# Longer than any line.
ROOM = b"\n" * 8192


def write(channel: Channel, line: str, *, wait: bool = True) -> None:
    """Append `line`, which holds no line separator, to `channel`.

    Raises OSError if the operating system does not take all of it, or if somebody keeps the file
    locked for 10 seconds; and BlockingIOError, if not to `wait`, after a millisecond of that.
    """
    file = _open_locked(channel, patience=10 if wait else 0.001)
    try:
        _append(file, f"{line}\n".encode())
    finally:
        os.close(file)  # unlocks it, too


def _open_locked(channel: Channel, patience: float) -> int:
    while True:
        file = _open(channel)
        try:
            _lock(file, patience)
            # It may have been removed meanwhile: then it is made anew.
            if os.fstat(file).st_nlink:
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)


def _open(channel: Channel) -> int:
    path = _path(channel)
    try:
        return os.open(path, APPEND, 0o666)
    except FileNotFoundError:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        return os.open(path, APPEND, 0o666)


def _path(channel: Channel) -> str:
    # A third of the cost of `log_dir / name`, for each line.
    return f"{settings.log_dir}/{channel}.txt"


def _lock(file: int, patience: float) -> None:
    """Keep others from writing. Raises BlockingIOError if they go on."""
    if sys.platform != "win32":
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # They are done in microseconds, unless they are stopped in the middle of a line.
                if time.monotonic() > deadline:
                    raise
                time.sleep(patience / 10_000)


def _append(file: int, data: bytes) -> None:
    written = 0
    try:
        # A full disk takes a part at first, and says why at the second attempt.
        while written < len(data):
            written += os.write(file, data[written:])
    except BaseException:
        if written:
            os.ftruncate(file, os.fstat(file).st_size - written)
        raise


def check() -> None:
    """Raise an OSError that names the setting if some channel cannot be written.

    Ends last lines that were left unfinished, by a loss of power for instance.
    """
    try:
        largest = max(_end_last_line(channel) for channel in get_args(Channel))
        # A full disk shows only when something is written, and so does a limit to the size of files.
        with TemporaryFile(dir=settings.log_dir) as probe:
            if sys.platform != "win32":  # which would fill what is skipped
                probe.seek(largest)
            probe.write(ROOM)
            probe.flush()
    except OSError as error:
        raise OSError(f"LOG_DIR: {error.strerror}: {settings.log_dir}") from error


def _end_last_line(channel: Channel) -> int:
    """Have the next line begin at the start of one; returns the size of the file in bytes."""
    file = _open_locked(channel, patience=1)
    try:
        size = os.fstat(file).st_size
        if size:
            with Path(_path(channel)).open("rb") as lines:
                lines.seek(size - 1)
                if lines.read(1) != b"\n":
                    _append(file, b"\n")
    finally:
        os.close(file)
    return size
