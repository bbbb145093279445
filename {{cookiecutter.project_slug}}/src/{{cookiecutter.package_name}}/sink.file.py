"""Writes records to files: `<LOG_DIR>/<channel>.txt`, UTF-8, one line a record.

The lines of one call reach the operating system in a single `write` on a descriptor that appends,
so lines neither tear nor merge, whichever threads and processes of this machine write at the same
time. Files are opened for each call: a file that was rotated away, or a folder that was removed, is
made anew. Nothing is flushed to the disk itself.
"""

from collections.abc import Iterable
from io import FileIO
from typing import get_args

from .models import Channel
from .settings import settings


def _open(channel: Channel) -> FileIO:
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    return (settings.log_dir / f"{channel}.txt").open("ab", buffering=0)


def write(channel: Channel, lines: Iterable[str]) -> None:
    """Append `lines`, which hold no line separators, to `channel`.

    Raises OSError if the operating system does not take all of them.
    """
    data = "".join(f"{line}\n" for line in lines).encode()
    with _open(channel) as file:
        # A file takes less than it is given only if something is wrong; the rest then tells what.
        while data:
            data = data[file.write(data) :]


def check() -> None:
    """Raise an OSError that names the setting if some channel cannot be written."""
    for channel in get_args(Channel):
        try:
            _open(channel).close()
        except OSError as error:
            raise OSError(error.errno, f"LOG_DIR: {error.strerror}", error.filename) from error
