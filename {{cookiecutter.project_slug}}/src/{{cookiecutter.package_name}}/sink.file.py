"""Writes records to files: `<LOG_DIR>/<channel>.txt`, UTF-8, one line a record.

The lines of one call reach the operating system in a single `write` on a descriptor that appends,
so lines neither tear nor merge, whichever threads and processes of this machine write at the same
time. A write that fails leaves nothing of its lines behind. Files are opened for each call: a file
that was rotated away, or a folder that was removed, is made anew. Nothing is flushed to the disk
itself.
"""

import os
import sys
from collections.abc import Iterable
from io import FileIO
from tempfile import TemporaryFile
from typing import get_args

from .models import Channel
from .settings import settings

if sys.platform != "win32":
    import fcntl


def _open_for_append(channel: Channel) -> FileIO:
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    return (settings.log_dir / f"{channel}.txt").open("ab", buffering=0)


def write(channel: Channel, lines: Iterable[str]) -> None:
    """Append `lines`, which hold no line separators, to `channel`.

    Raises OSError if the operating system does not take all of them.
    """
    data = "".join(f"{line}\n" for line in lines).encode()
    with _open_for_append(channel) as file:
        # Nobody may append before a write that failed in the middle is undone. Closing unlocks.
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        try:
            # A full disk takes a part of the first write, and says why at the second.
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise


def check() -> None:
    """Raise an OSError that names the setting if some channel cannot be written."""
    try:
        for channel in get_args(Channel):
            _open_for_append(channel).close()
        # A full disk shows only when something is written.
        with TemporaryFile(dir=settings.log_dir, buffering=0) as probe:
            probe.write(b"\n")
    except OSError as error:
        raise OSError(f"LOG_DIR: {error.strerror}: {settings.log_dir}") from error
