"""Middleware for every request."""

import re
import secrets
{% if cookiecutter.engine == "background" %}
from contextlib import suppress
{% endif %}
from urllib.parse import unquote_to_bytes

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import logs
{% if cookiecutter.engine == "background" %}
from .runner import TaskFailed
{% endif %}

MAX_BODY_SIZE = 65_536  # bytes
VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9+/=_.:@-]{1,128}")


def request_id(app: ASGIApp) -> ASGIApp:
    """Give each request an id for the log and for `X-Request-ID`, or keep the client's valid one."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        value = dict(scope["headers"]).get(b"x-request-id", b"")
        if not VALID_REQUEST_ID.fullmatch(value):
            value = secrets.token_hex(16).encode()
        logs.request_id.set(value.decode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", value))
            await send(message)

        await app(scope, receive, send_with_id)

    return middleware


def utf_8(app: ASGIApp) -> ASGIApp:
    """Answer 422 to text that is not UTF-8, whose bytes the server and Starlette would replace."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for place, text in (("path", scope["raw_path"]), ("query", scope["query_string"])):
                try:
                    if b"%" in text:
                        unquote_to_bytes(text).decode()
                except UnicodeDecodeError:
                    fault = {"type": "string_unicode", "loc": [place], "msg": "must be UTF-8"}
                    await JSONResponse({"detail": [fault]}, 422)(scope, receive, send)
                    return
        await app(scope, receive, send)

    return middleware


def body_limit(app: ASGIApp) -> ASGIApp:
    """Answer 413 to a body that is too large, before the endpoint can schedule a task."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            await app(scope, receive, send)
            return
        body = b""
        size = int(headers.get(b"content-length", 0))
        more = True
        while more and size <= MAX_BODY_SIZE:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            size = max(size, len(body))
            more = message.get("more_body", False)
        if size > MAX_BODY_SIZE:
            await JSONResponse({"detail": "Content Too Large"}, 413)(scope, receive, send)
            return
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_body() -> Message:
            return unread.pop() if unread else await receive()

        await app(scope, receive_body, send)

    return middleware
{% if cookiecutter.engine == "background" %}


def task_failure(app: ASGIApp) -> ASGIApp:
    """Drop TaskFailed, which is logged, so that the server keeps the client's connection."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(TaskFailed):
            await app(scope, receive, send)

    return middleware
{% endif %}
