"""Hands lines from asynchronous tasks to the sink, without holding up the event loop.

This is a group commit: while one write of a channel is under way in a worker thread, the lines that
arrive wait, and all of them go out together in the next one, in the order in which they arrived.
"""

import asyncio
from collections import defaultdict

from . import sink
from .models import Channel

# What waits belongs to the event loop that it waits in; a service has one, its tests have many.
Stream = tuple[asyncio.AbstractEventLoop, Channel]
Entry = tuple[str, asyncio.Future[None]]

_waiting: defaultdict[Stream, list[Entry]] = defaultdict(list)
_writers: dict[Stream, asyncio.Task[None]] = {}


async def write(channel: Channel, line: str) -> None:
    """Return once the operating system has `line`.

    Raises what the sink raised, an OSError as a rule, if the write that `line` was part of failed.
    A task that is cancelled while it waits may still find its line written.
    """
    loop = asyncio.get_running_loop()
    stream = loop, channel
    written = loop.create_future()
    _waiting[stream].append((line, written))
    if stream not in _writers:
        _writers[stream] = asyncio.create_task(_write_waiting(stream))
    await written


async def _write_waiting(stream: Stream) -> None:
    _, channel = stream
    try:
        while batch := _waiting.pop(stream, None):
            await _write_batch(channel, batch)
    finally:
        del _writers[stream]


async def _write_batch(channel: Channel, batch: list[Entry]) -> None:
    failure = None
    try:
        await asyncio.to_thread(sink.write, channel, [line for line, _ in batch])
    except Exception as error:
        failure = error
    for _, written in batch:
        # A task that was cancelled waits no longer.
        if written.done():
            continue
        if failure:
            written.set_exception(failure)
        else:
            written.set_result(None)
