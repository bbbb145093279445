"""Lines that arrive during a write go out together in the next one."""

import asyncio
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from {{ cookiecutter.package_name }} import sink, writer


class HeldSink:
    """Keeps each batch of lines that it is given, and holds on to it until it is released."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.reached = threading.Event()
        self.released = threading.Event()

    def write(self, _channel: str, lines: Iterable[str]) -> None:
        self.batches.append(list(lines))
        self.reached.set()
        self.released.wait(timeout=10)
        if "bad" in self.batches[-1]:
            raise OSError("No space left on device")


@pytest.fixture
def held_sink(monkeypatch: pytest.MonkeyPatch) -> HeldSink:
    held = HeldSink()
    monkeypatch.setattr(sink, "write", held.write)
    return held


async def write_behind_a_held_line(held_sink: HeldSink, *lines: str) -> list[asyncio.Task[None]]:
    """Start to write one line, and while the sink holds on to it, all the others."""
    first = asyncio.create_task(writer.write("log", "first"))
    await asyncio.to_thread(held_sink.reached.wait)
    others = [asyncio.create_task(writer.write("log", line)) for line in lines]
    await asyncio.sleep(0)
    return [first, *others]


def test_waiting_lines_share_a_write(held_sink: HeldSink) -> None:
    async def scenario() -> None:
        tasks = await write_behind_a_held_line(held_sink, "a", "b", "c")
        held_sink.released.set()
        await asyncio.wait_for(asyncio.gather(*tasks), timeout=10)

    asyncio.run(scenario())

    assert held_sink.batches == [["first"], ["a", "b", "c"]]


def test_failure_reaches_all_who_wait_for_that_write(held_sink: HeldSink) -> None:
    async def scenario() -> list[BaseException | None]:
        tasks = await write_behind_a_held_line(held_sink, "a", "bad")
        held_sink.released.set()
        everything = asyncio.gather(*tasks, return_exceptions=True)
        return await asyncio.wait_for(everything, timeout=10)

    first, *others = asyncio.run(scenario())

    assert first is None
    assert [str(other) for other in others] == ["No space left on device"] * 2


def test_cancelled_task_takes_no_other_with_it(held_sink: HeldSink) -> None:
    async def scenario() -> list[BaseException | None]:
        tasks = await write_behind_a_held_line(held_sink, "a", "b")
        tasks[0].cancel()
        tasks[1].cancel()
        held_sink.released.set()
        everything = asyncio.gather(*tasks, return_exceptions=True)
        return await asyncio.wait_for(everything, timeout=10)

    first, a, b = asyncio.run(scenario())

    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(a, asyncio.CancelledError)
    assert b is None
    assert held_sink.batches == [["first"], ["a", "b"]]


def test_loops_do_not_wait_for_each_other(held_sink: HeldSink) -> None:
    def run(line: str) -> None:
        asyncio.run(asyncio.wait_for(writer.write("log", line), timeout=10))

    with ThreadPoolExecutor() as pool:
        loops = [pool.submit(run, line) for line in ("a", "b")]
        while len(held_sink.batches) < len(loops):
            assert not any(loop.done() for loop in loops)
        held_sink.released.set()
        for loop in loops:
            loop.result()

    assert sorted(held_sink.batches) == [["a"], ["b"]]
