"""Requests that Schemathesis generates, or that never end. docs/guarantees.md has a row for each test."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from conftest import ENVIRONMENT, Installed, few_variants, variants
from serving import Process, container_options, free_port, send, serve, wait_for

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,negative_data_rejection,unsupported_method"
)


@pytest.mark.faults
@pytest.mark.parametrize("installed", few_variants(), indirect=True)
def test_answers_keep_to_the_schema(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, "--no-access-log") as service:
        command = ["schemathesis", "run", f"{service.url}/openapi.json", "--checks", CHECKS, "--max-examples=50"]
        result = subprocess.run([*command, "--no-color"], cwd=tmp_path, capture_output=True, encoding="utf-8")

    assert result.returncode == 0, result.stdout + result.stderr


@contextmanager
def proxied(installed: Installed, folder: Path) -> Iterator[tuple[int, psutil.Process, psutil.Process]]:
    """Run a service and the proxy of its compose file; yields the proxy's port, the service and the proxy."""
    binary = shutil.which("nginx", path=f"{ENVIRONMENT['PATH']}:/usr/sbin")
    if not binary:
        pytest.skip("no nginx on the PATH")
    with serve(installed, folder, *container_options(installed)) as service:
        port = free_port()
        text = (installed.path / "nginx.conf").read_text(encoding="utf-8")
        text = text.replace("listen 8000", f"listen 127.0.0.1:{port}").replace("/tmp/", f"{folder}/")  # noqa: S108
        text = text.replace("api:8000", f"127.0.0.1:{service.port}")
        (folder / "nginx.conf").write_text(f"user root;\n{text}" if os.getuid() == 0 else text, encoding="utf-8")
        command = [binary, "-e", "stderr", "-c", str(folder / "nginx.conf")]
        proxy = Process(command, folder, ENVIRONMENT, folder / "nginx.txt")
        try:
            wait_for(lambda: "200" in status_line(port) or not proxy.runs(), "the proxy to answer")
            assert proxy.runs(), proxy.said()
            yield port, psutil.Process(service.server.pid), psutil.Process(proxy.pid)
        finally:
            proxy.kill()


def status_line(port: int) -> str:
    """Return the first line of the answer to a request for health, or nothing."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection.recv(4096).decode().partition("\r\n")[0]
    return ""


def memory(process: psutil.Process) -> int:
    """Return the memory of a process and its children, in bytes."""
    return sum(each.memory_info().rss for each in (process, *process.children()))


in_process = pytest.mark.parametrize("installed", variants(["file"], ["background"]), indirect=True)


@pytest.mark.faults
@in_process
def test_idle_connections_shut_nobody_out(installed: Installed, tmp_path: Path) -> None:
    with proxied(installed, tmp_path) as (port, server, _), ExitStack() as stack:
        idle = [stack.enter_context(closing(socket.create_connection(("127.0.0.1", port)))) for _ in range(1500)]
        for connection in idle[::2]:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n")
        start = time.monotonic()
        assert "200" in status_line(port)
        assert time.monotonic() - start < 1
        assert len(server.net_connections()) < 100
        for connection in idle:
            connection.settimeout(30)
            with suppress(ConnectionError):
                assert connection.recv(4096) == b""  # the proxy has closed it


@pytest.mark.faults
@in_process
def test_headers_are_bounded(installed: Installed, tmp_path: Path) -> None:
    with proxied(installed, tmp_path) as (port, server, proxy), ExitStack() as stack:
        before = memory(server), memory(proxy)
        for _ in range(20):
            connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=10)))
            with suppress(ConnectionError):
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 5_000_000)
                assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert memory(server) - before[0] < 10_000_000
        assert memory(proxy) - before[1] < 10_000_000
        assert "200" in status_line(port)


@pytest.mark.faults
@in_process
def test_proxy_takes_what_the_service_takes(installed: Installed, tmp_path: Path) -> None:
    with proxied(installed, tmp_path) as (port, _, _):
        url = f"http://127.0.0.1:{port}/log/?message={quote('🚀' * 1000)}"
        for body in (bytes(65_536), iter([bytes(65_536)])):
            assert send(url, body=body).status == 200
        for body in (bytes(65_537), iter([bytes(65_537)])):
            reply = send(url, body=body)
            assert (reply.status, reply.body) == (413, {"detail": "Content Too Large"})
        assert (tmp_path / "records" / "log.txt").read_text("utf-8") == f"{'🚀' * 1000}\n" * 2
