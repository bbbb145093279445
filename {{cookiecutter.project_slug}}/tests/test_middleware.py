"""Ids of requests, and the limit to their bodies."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from unittest.mock import AsyncMock

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from httpx2 import ASGITransport, AsyncClient, Response
from starlette.types import Message

from {{ cookiecutter.package_name }} import middleware

Records = Callable[[str], list[str]]


@pytest.mark.parametrize("request_id", ["4711", "x" * 128, "Zz09+/=_.:@-"])
def test_valid_request_id_is_kept(client: TestClient, request_id: str) -> None:
    response = client.get("/health/live", headers={"X-Request-ID": request_id})

    assert response.headers.get_list("X-Request-ID") == [request_id]


@pytest.mark.parametrize("request_id", [None, "", "x" * 129, "two words", '"quoted"', "é".encode()])
def test_request_id_is_made(client: TestClient, request_id: str | None) -> None:
    headers = {} if request_id is None else {"X-Request-ID": request_id}
    made = [client.get("/nowhere", headers=headers).headers["X-Request-ID"] for _ in range(2)]

    assert len({*made, request_id}) == 3
    assert [len(value) for value in made] == [32, 32]


@pytest.mark.parametrize("body", [bytes, lambda size: iter([bytes(size)])], ids=["size", "chunks"])
def test_large_body_is_refused(
    client: TestClient, records: Records, body: Callable[[int], bytes | Iterable[bytes]]
) -> None:
    refused = client.post("/log/?message=refused", content=body(65_537))
    taken = client.post("/log/?message=taken", content=body(65_536))

    assert [refused.status_code, taken.status_code] == [413, 200]
    assert refused.json() == {"detail": "Content Too Large"}
    assert "X-Request-ID" in refused.headers
    assert records("log") == ["taken"]


def test_request_whose_body_breaks_off_is_dropped() -> None:
    app, send = AsyncMock(), AsyncMock()
    messages: list[Message] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"hel", "more_body": True},
    ]

    async def receive() -> Message:
        return messages.pop()

    async def run() -> None:
        scope = {"type": "http", "headers": [(b"content-length", b"5")]}
        await middleware.body_limit(app)(scope, receive, send)

    asyncio.run(run())

    app.assert_not_called()
    send.assert_not_called()


def test_chunks_of_a_body_add_up() -> None:
    app = FastAPI()
    app.add_middleware(middleware.body_limit)

    @app.post("/")
    async def read(request: Request) -> str:
        return (await request.body()).decode()

    async def chunks(*sizes: int) -> AsyncIterator[bytes]:
        for size in sizes:
            yield b"x" * size

    async def post(*sizes: int) -> Response:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            return await asyncio.wait_for(client.post("/", content=chunks(*sizes)), timeout=5)

    assert asyncio.run(post(32_768, 32_768)).json() == "x" * 65_536
    assert asyncio.run(post(32_768, 32_769)).status_code == 413
