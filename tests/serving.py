"""Real servers, real requests."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

from conftest import ENVIRONMENT, Installed


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Return once `condition` holds; raises TimeoutError, with `what` was waited for, if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Reply:
    """An answer whose body is JSON."""

    status: int
    headers: Message
    body: Any


def send(url: str, method: str = "POST") -> Reply:
    """Send a request without a body and return the answer, whatever its status."""
    request = urllib.request.Request(url, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return Reply(response.status, response.headers, json.load(response))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, json.load(error))


def answers(url: str) -> bool:
    """Whether a server answers there."""
    try:
        return send(url, "GET").status == 200
    except OSError:
        return False


@dataclass
class Server:
    """A running service and what it has written."""

    project: Installed
    port: int
    log_dir: Path
    process: subprocess.Popen[str]
    errors: Path
    output: list[str] = field(default_factory=list)

    def post(self, path: str) -> Reply:
        return send(f"http://127.0.0.1:{self.port}{path}")

    def get(self, path: str) -> Reply:
        return send(f"http://127.0.0.1:{self.port}{path}", "GET")

    def records(self, channel: str) -> list[str]:
        """The lines that have reached a channel."""
        if self.project.sink == "file":
            file = self.log_dir / f"{channel}.txt"
            return file.read_bytes().decode().split("\n")[:-1] if file.exists() else []
        parsed = [json.loads(line) for line in list(self.output)]
        return [record["line"] for record in parsed if record["channel"] == channel]

    def expect(self, channel: str, *lines: str) -> None:
        """Wait until exactly `lines` have reached a channel."""
        wait_for(lambda: len(self.records(channel)) >= len(lines), f"{lines} in {channel}")
        assert self.records(channel) == list(lines)

    def read_output(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output.append(line)


def uvicorn(project: Installed) -> str:
    """The server in a project's own environment."""
    return str(project.path / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "uvicorn")


@contextmanager
def serve(project: Installed, folder: Path, *options: str, **settings: str) -> Iterator[Server]:
    """Run a project under uvicorn from `folder`, until the block ends, with the settings of its environment."""
    port = free_port()
    log_dir = folder / "records"
    environment = ENVIRONMENT | {"LOG_DIR": str(log_dir)} | settings
    errors = folder / "errors.txt"
    with errors.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [uvicorn(project), "myservice.main:app", "--port", str(port), *options],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
        )
    server = Server(project, port, log_dir, process, errors)
    reader = threading.Thread(target=server.read_output)
    reader.start()
    try:
        live = f"http://127.0.0.1:{port}/health/live"
        wait_for(lambda: answers(live) or process.poll() is not None, "the service to start")
        assert process.poll() is None, errors.read_text(encoding="utf-8")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
        reader.join()
        assert process.stdout
        process.stdout.close()


def refused_start(project: Installed, folder: Path, *options: str, **settings: str) -> tuple[int, str]:
    """Start a service that is expected to refuse; returns its exit status and what it said."""
    result = subprocess.run(
        [uvicorn(project), "myservice.main:app", "--port", str(free_port()), *options],
        cwd=folder,
        env=ENVIRONMENT | settings,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    return result.returncode, result.stdout + result.stderr
