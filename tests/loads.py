"""Many requests at once."""

import asyncio
import itertools
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

from serving import Service


def flood(port: int, paths: Iterable[str], statuses: dict[str, int], connections: int = 64) -> None:
    """Send a POST request to each path over several connections, and add the status of each answer to `statuses`.

    A connection that fails is not opened again, and its last request has no status.
    """
    left = iter(paths)

    async def send_next() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            for path in left:
                writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = re.search(r"content-length: (\d+)", head)
                assert length, head
                await reader.readexactly(int(length[1]))
                statuses[path] = int(head.split()[1])

    async def send_all() -> None:
        ends = await asyncio.gather(*(send_next() for _ in range(connections)), return_exceptions=True)
        for end in ends:
            if end and not isinstance(end, (OSError, asyncio.IncompleteReadError)):
                raise end

    asyncio.run(send_all())


def numbered(numbers: Iterable[int]) -> Iterator[str]:
    """Return requests that write these numbers."""
    return (f"/log/?message={number}" for number in numbers)


def lines_of(statuses: dict[str, int]) -> list[str]:
    """Return the lines of the requests that got 200."""
    return sorted(path.partition("=")[2] for path, status in statuses.items() if status == 200)


@contextmanager
def flooded(service: Service) -> Iterator[dict[str, int]]:
    """Send numbered requests until the block ends; yields the statuses of those that are answered."""
    statuses: dict[str, int] = {}
    ended = threading.Event()
    numbers = itertools.takewhile(lambda _: not ended.is_set(), itertools.count())
    with ThreadPoolExecutor() as pool:
        load = pool.submit(flood, service.port, numbered(numbers), statuses)
        try:
            yield statuses
        finally:
            ended.set()
        load.result()
