"""Real servers under real load, and their CPU time and memory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

HERE = Path(__file__).parent
# The tests know how to generate projects, and how to start a Redis.
sys.path.append(str(HERE.parent / "tests"))

from conftest import ENVIRONMENT  # noqa: E402
from serving import free_port, wait_for  # noqa: E402


@dataclass(frozen=True)
class Load:
    """The figures of one load: latencies in milliseconds, CPU time in microseconds a request.

    `rate` is answered requests per second; `done` includes the time until their tasks were done.
    """

    requests: int
    rate: float
    done: float
    p50: float
    p99: float
    cpu: float


def tool(environment: Path, name: str) -> str:
    """The path of a program in a virtual environment."""
    return str(environment / ("Scripts" if sys.platform == "win32" else "bin") / name)


class Server:
    """A running uvicorn."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        """Watch `process`, which listens at `port`."""
        self.process = psutil.Process(process.pid)
        self.port = port

    def answers(self, path: str, method: str) -> bool:
        """Whether a request is answered with 200."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                return response.status == 200
        except urllib.error.HTTPError:
            raise
        except OSError:
            return False

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """The CPU time that it has taken so far, with its processes."""
        return sum(times.user + times.system for times in (process.cpu_times() for process in self._tree()))

    def settle(self) -> float:
        """Wait until it has done its work, and return when that was: tasks may go on when a load is over."""
        busy, used = time.perf_counter(), self.cpu_seconds()
        while time.perf_counter() - busy < 0.3:
            time.sleep(0.02)
            if (now := self.cpu_seconds()) > used:
                busy, used = time.perf_counter(), now
        return busy

    def memory(self) -> int:
        """The memory that it holds, in bytes."""
        return sum(process.memory_info().rss for process in self._tree())

    def load(self, path: str, *, connections: int = 32, seconds: float) -> Load:
        """Send requests for some seconds; raises RuntimeError if any is not answered with 200."""
        self.settle()
        before, start = self.cpu_seconds(), time.perf_counter()
        wrk = self._start_wrk(path, connections, seconds)
        result = read_result(wrk)
        end = self.settle()
        cpu = self.cpu_seconds() - before
        requests = result["requests"]
        rate, done = requests / result["seconds"], requests / (end - start)
        return Load(requests, rate, done, result["p50"], result["p99"], cpu / requests * 1e6)

    def count(self, path: str, *, first: int, limit: int) -> int:
        """Send at least `limit` numbered messages, from `first` on, and return how many were answered."""
        wrk = self._start_wrk(path, 32, 3600, FIRST=str(first), LIMIT=str(limit))
        assert wrk.stderr
        assert wrk.stderr.readline() == "enough\n"
        wrk.send_signal(signal.SIGINT)
        return int(read_result(wrk)["requests"])

    def _start_wrk(self, path: str, connections: int, seconds: float, **environment: str) -> subprocess.Popen[str]:
        command = [
            *("wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds:.0f}s"),
            *("--timeout=30s", f"--script={HERE / 'requests.lua'}", f"http://127.0.0.1:{self.port}{path}"),
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=os.environ | environment, text=True, **pipes)


def read_result(wrk: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for the end of wrk and return what it measured; raises RuntimeError if not every request got 200."""
    output, errors = wrk.communicate()
    said = f"{' '.join(map(str, wrk.args))}\n{output}{errors}"
    if wrk.returncode:
        raise RuntimeError(said)
    result: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    if result["errors"] or not result["requests"]:
        raise RuntimeError(said)
    return result


@contextmanager
def serve(
    environment: Path,
    application: str,
    folder: Path,
    *,
    probe: str,
    method: str = "POST",
    processes: int = 1,
    output: IO[bytes] | int = subprocess.DEVNULL,
    **variables: str,
) -> Iterator[Server]:
    """Run an application, from its virtual environment and in `folder`, until it has answered `probe`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        *(tool(environment, "uvicorn"), application, "--port", str(port), "--workers", str(processes)),
        # The load may pause for longer than the five seconds that uvicorn keeps a connection for by default.
        *("--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "60"),
    ]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": str(HERE / "peers")} | variables,
        stdout=output,
    )
    server = Server(process, port)
    try:
        wait_for(lambda: process.poll() is not None or server.answers(probe, method), application)
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(command)} has ended with {process.returncode}")
        yield server
    finally:
        process.terminate()
        process.wait()


@contextmanager
def reader(destination: Path) -> Iterator[IO[bytes]]:
    """A pipe, and a process that reads it into a file, at the end to the last byte."""
    with destination.open("wb") as file:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    assert process.stdin
    with process.stdin as pipe:
        yield pipe
    process.wait()


def seconds_to_first_answer(environment: Path, application: str, folder: Path, **variables: str) -> float:
    """How long an application takes from its start until the first 200."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [tool(environment, "uvicorn"), application, "--port", str(port), "--log-level", "warning"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT | {"PYTHONPATH": str(HERE / "peers")} | variables)
    try:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port))
            except ConnectionRefusedError:
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} has ended with {process.returncode}") from None
                time.sleep(0.001)
                continue
            with connection:
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b" 200 " in connection.recv(1000)
            return time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def seconds_of(*command: str, folder: Path) -> float:
    """How long a command takes from its start to its end; raises CalledProcessError if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, check=True)
    return time.perf_counter() - start


def empty(folder: Path) -> Path:
    """Remove what a run has left in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
