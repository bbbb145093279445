"""Hostile requests, and how a service answers them."""

import re
import socket
import struct
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import Installed, few_variants
from serving import CHANNELS, Service, serve, wait_for

MEGABYTE = 1_000_000
LARGE = 65_537  # one byte more than a body may have


def request(target: str, *headers: str, method: str = "POST", body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode("latin-1") + body


def post(target: str, *headers: str, body: bytes = b"") -> bytes:
    return request(target, "Connection: close", *headers, body=body)


# Each request with the statuses that may answer it. None: the connection is closed without an answer.
REQUESTS: list[tuple[bytes, set[int | None]]] = [
    # Texts that would be more than one line, or move a terminal's cursor.
    *(
        (post(f"/log/?message=forged{quote(text)}line"), {422})
        for text in ("\n", "\r\n", "\0", "\x1b[2K", "\u2028", "\x85")
    ),
    *((post(f"/send-notification/{quote(text)}@b.de"), {422}) for text in ("\n", "\r\n", "\0", "\x1b[2K", "/..", "..")),
    # The same texts, without percent-encoding.
    *((post(f"/log/?message=forged{text}line"), {400, 422, None}) for text in ("\n", "\r\n", "\0", "\x1b[2K", "\x85")),
    (post("/log/\x1b[2K?message=forged"), {400, 404, None}),
    # Bytes that are not UTF-8; an encoded lone surrogate.
    (post("/log/?message=%FF"), {422}),
    (post("/log/?message=%ED%A0%80"), {422}),
    (post("/log/?message=\xff\xfe"), {400, 422, None}),
    (post("/send-notification/%FF@b.de"), {422}),
    # Paths that would lead elsewhere.
    (post("/send-notification/..%2f..%2fforged@b.de"), {422}),
    (post("/send-notification/../../forged@b.de"), {422}),
    (post("/log/../../forged?message=forged"), {404}),
    (post("//forged/?message=forged"), {404}),
    (post("http://elsewhere.example/log/?message=forged&message="), {404, 422}),
    # Floods.
    (post(f"/log/?message={'x' * MEGABYTE}"), {400, 414, 422, 431, None}),
    (post("/log/?message=x" + "&x=y" * (MEGABYTE // 4)), {200, 400, 414, 422, 431, None}),
    (post("/" + "x" * MEGABYTE), {400, 404, 414, None}),
    (post("/log/?message=x", *(f"X-{number}: y" for number in range(10_000))), {200, 400, 431, None}),
    (post("/nowhere/", f"X-Flood: {'y' * MEGABYTE}"), {400, 404, 431, None}),
    # Bodies, announced or not.
    (post("/log/?message=forged", f"Content-Length: {LARGE}", body=b"x" * LARGE), {413}),
    (
        post(
            "/log/?message=forged", "Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (LARGE, b"x" * LARGE)
        ),
        {413},
    ),
    (post("/log/?message=x", "Content-Length: 0"), {200}),
    (post("/log/?message=x", "Content-Length: 5", "Expect: 100-continue", body=b"hello"), {200}),
    (post("/log/?message=forged", f"Content-Length: {LARGE}", "Expect: 100-continue"), {413}),
    (b"POST /log/?message=x HTTP/1.0\r\n\r\n", {200}),
    (b"POST /log/?message=x HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", {200}),
    # Bodies that are malformed, also where nobody reads them.
    *(
        (post(path, *headers, body=body), {400})
        for path in ("/log/?message=forged", "/health/live", "/nowhere")
        for headers, body in [
            (["Transfer-Encoding: chunked"], b"zz\r\nhello\r\n0\r\n\r\n"),
            (["Transfer-Encoding: chunked"], b"5\r\nhello\r\nzz\r\n"),
            (["Transfer-Encoding: chunked"], b"2\r\nhello\r\n0\r\n\r\n"),
            (["Transfer-Encoding: nonsense"], b"hello"),
            *(([f"Content-Length: {size}"], b"hello") for size in ("", "five", "-1", "+5", "5_0", "0x5", "9" * 5000)),
            (["Content-Length: 5", "Content-Length: 6"], b"hello!"),
        ]
    ),
    (request("/health/live", "Connection: close", "Content-Length: 5", method="GET", body=b"hello"), {200}),
    (request("/health/live", "Connection: close", f"Content-Length: {LARGE}", method="GET", body=b"x" * LARGE), {413}),
    # Request smuggling: two requests in bytes that another server may read as one.
    (
        post(
            "/log/?message=x",
            "Content-Length: 4",
            "Transfer-Encoding: chunked",
            body=b"0\r\n\r\n" + post("/log/?message=forged"),
        ),
        {200, 400, None},
    ),
    (post("/log/?message=x", "X-A: b\rX-C: d"), {200, 400, None}),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, {400, None}),
]

# Requests that end in the midst of their bodies.
ABORTED = [
    request(path, *headers, method=method, body=body)
    for path in ("/log/?message=forged", "/health/live", "/nowhere")
    for method in ("POST", "GET")
    for headers, body in [
        (["Content-Length: 10"], b""),
        (["Content-Length: 10"], b"hello"),
        (["Content-Length: 10", "Expect: 100-continue"], b""),
        (["Transfer-Encoding: chunked"], b"5\r\nhe"),
        (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n"),
    ]
]


def status_of(service: Service, data: bytes) -> int | None:
    """Send bytes, and return the status of the answer, or None if there is none."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
        answer = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
    status = re.match(rb"(?:HTTP/1.1 100 Continue\r\n\r\n)?HTTP/1.1 (\d+) ", answer)
    return int(status[1]) if status else None


def abort(service: Service, data: bytes) -> None:
    """Send bytes, and reset the connection."""
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(data)


def written_files(folder: Path) -> set[Path]:
    """The files in a folder, but for what Redis keeps there."""
    return {path for path in folder.rglob("*") if "redis" not in str(path) and "aof" not in str(path)}


def check_hostile_requests(service: Service) -> None:
    """Send all requests, and check that nothing but the accepted ones leaves a trace."""

    def lines() -> list[str]:
        return [line for channel in CHANNELS for line in service.records(channel)]

    service.post("/log/?message=before")
    service.expect("log", "before")
    files = written_files(service.folder)
    start_of_log = len(service.server.said())
    accepted = 0
    for data, allowed in REQUESTS:
        status = status_of(service, data)
        assert status in allowed, data[:200]
        accepted += status == 200 and data.startswith(b"POST ")
    for data in ABORTED:
        abort(service, data)
    service.post("/log/?message=after")
    wait_for(lambda: "after" in lines() and len(lines()) >= 2 + accepted, "a line for each request that got 200")

    assert len(lines()) == 2 + accepted
    assert not [line for line in lines() if "forged" in line]
    assert written_files(service.folder) == files
    said = service.server.said()[start_of_log:]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", said)
    assert "Traceback" not in said
    assert service.get("/health/ready").status == 200


def test_hostile_requests(service: Service) -> None:
    check_hostile_requests(service)


@pytest.mark.faults
@pytest.mark.parametrize("installed", few_variants(), indirect=True)
def test_hostile_requests_to_h11(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, "--http", "h11") as service:
        check_hostile_requests(service)
