"""What becomes of requests and of their tasks when something goes wrong; README.md has a row for each test."""

import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import Installed, variants
from serving import Process, Service, flood, serve, wait_for

if sys.platform != "linux":
    pytest.skip("faults are made with what Linux offers", allow_module_level=True)

import fcntl
import resource

pytestmark = pytest.mark.faults

in_process = pytest.mark.parametrize("installed", variants(engines=["background"], group="faults"), indirect=True)
in_process_to_files = pytest.mark.parametrize(
    "installed", variants(["file"], ["background"], group="faults"), indirect=True
)
in_process_to_stdout = pytest.mark.parametrize(
    "installed", variants(["stdout"], ["background"], group="faults"), indirect=True
)
to_files = pytest.mark.parametrize("installed", variants(["file"], group="faults"), indirect=True)
on_redis = pytest.mark.parametrize("installed", variants(["file"], ["celery", "rq"], group="faults"), indirect=True)


def numbered(numbers: Iterable[int]) -> Iterator[str]:
    """Requests whose lines are these numbers."""
    return (f"/log/?message={number}" for number in numbers)


def lines_of(statuses: dict[str, int]) -> list[str]:
    """The lines that requests were promised, which got 200."""
    return sorted(path.partition("=")[2] for path, status in statuses.items() if status == 200)


def container_options(project: Installed) -> list[str]:
    """The options of the server in the container, but for its address."""
    (command,) = re.findall(r"^CMD (\[.*?\])$", (project.path / "Dockerfile").read_text(), re.DOTALL | re.MULTILINE)
    options = json.loads(command.replace("\\\n", ""))[2:]
    at = options.index("--host")
    return [*options[:at], *options[at + 2 :]]


def processes_of(process: Process) -> list[int]:
    """The ids of a process and of all that it has started."""
    found = [process.pid]
    for pid in found:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        found += map(int, children.read_text().split())
    return found


@contextmanager
def files_limited_to(size: int, processes: list[Process]) -> Iterator[None]:
    """Let processes write no file that is longer than `size` bytes, as on a disk that is full."""
    limits = {
        pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for process in processes for pid in processes_of(process)
    }
    for pid, (_, hard) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    yield
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


@contextmanager
def flooded(service: Service) -> Iterator[dict[str, int]]:
    """Send numbered requests until the block ends; has the statuses of those that have been answered."""
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


def memory(process: Process) -> int:
    """How many bytes of memory a process has."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024


def is_open(process: Process, path: Path) -> bool:
    """Whether a process, or one that it has started, has a file open."""
    for pid in processes_of(process):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed in the meantime
                if descriptor.readlink() == path:
                    return True
    return False


@in_process
def test_many_requests(installed: Installed, tmp_path: Path) -> None:
    statuses: dict[str, int] = {}
    with serve(installed, tmp_path, "--workers=2", "--no-access-log") as service:
        flood(service.port, numbered(range(100_000)), statuses)

    assert set(statuses.values()) == {200}
    assert sorted(service.records("log")) == lines_of(statuses) == sorted(map(str, range(100_000)))


@in_process
def test_server_told_to_stop(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, *container_options(installed)) as service, flooded(service) as statuses:
        wait_for(lambda: len(statuses) >= 3000, "a load")
        told = time.monotonic()
        service.server.stop()
        seconds = time.monotonic() - told

    records = service.records("log")
    assert seconds < 10  # then Docker would kill it
    assert set(lines_of(statuses)) <= set(records)
    assert sorted(map(int, records)) == sorted(set(map(int, records)))


@to_files
def test_full_disk(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    log = tmp_path / "records" / "log.txt"
    # Longer than what the processes log: that may grow.
    log.write_text("old\n" * 100_000)
    with serve(installed, tmp_path) as service:
        service.post("/log/?message=before")
        wait_for(lambda: service.records("log")[-1] == "before", "a first line")
        with files_limited_to(log.stat().st_size + 300, service.processes):
            assert service.post(f"/log/?message={'x' * 500}").status == 200
            worker = service.processes[-1]
            wait_for(lambda: "File too large" in worker.said(), "the failure in the log")
            assert "write_log" in worker.said()
            with log.open() as records:
                fcntl.flock(records, fcntl.LOCK_SH)  # else another attempt may be under way
                assert records.read().endswith("\nbefore\n")
            reply = service.get("/health/ready")
            assert (reply.status, reply.body) == (503, {"detail": "Records cannot be written"})
            assert service.get("/health/live").status == 200

        assert service.get("/health/ready").status == 200
        service.post("/log/?message=after")
        wait_for(lambda: len(service.records("log")) >= 100_003, "the lines")
        assert sorted(service.records("log")[100_000:]) == ["after", "before", "x" * 500]


@in_process_to_stdout
def test_full_disk_below_standard_output(installed: Installed, tmp_path: Path) -> None:
    records = tmp_path / "records.txt"
    records.write_text("old\n" * 100_000)

    def lines() -> list[str]:
        with records.open() as file:
            fcntl.lockf(file, fcntl.LOCK_SH)  # else another attempt may be under way
            return [json.loads(record)["line"] for record in file.read().splitlines()[100_000:]]

    with records.open("a") as output, serve(installed, tmp_path, stdout=output.fileno()) as service:
        service.post("/log/?message=before")
        wait_for(lines, "a first line")
        with files_limited_to(records.stat().st_size + 300, service.processes):
            assert service.post(f"/log/?message={'x' * 500}").status == 200
            wait_for(lambda: "File too large" in service.server.said(), "the failure in the log")
            assert "write_log" in service.server.said()
            assert lines() == ["before"]
            assert service.get("/health/live").status == 200

        service.post("/log/?message=after")
        wait_for(lambda: len(lines()) >= 3, "the lines")
        assert sorted(lines()) == ["after", "before", "x" * 500]


@in_process_to_files
def test_file_rotated(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, "--workers=2", "--no-access-log") as service:
        log = service.log_dir / "log.txt"
        with flooded(service) as statuses:
            for number in range(5):
                wait_for(lambda: log.exists() and log.stat().st_size > 5000, "lines")
                log.rename(log.with_name(f"log.{number}"))

    lines = [line for file in service.log_dir.glob("log.*") for line in file.read_text().splitlines()]
    assert set(statuses.values()) == {200}
    assert sorted(lines) == lines_of(statuses)


@in_process_to_files
def test_folder_removed(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, "--workers=2", "--no-access-log") as service:
        log = service.log_dir / "log.txt"
        removed = log.open()
        with flooded(service) as statuses:
            wait_for(lambda: log.stat().st_size > 5000, "lines")
            fcntl.flock(removed, fcntl.LOCK_EX)
            wait_for(lambda: is_open(service.server, log), "a server to wait for the lock")
            size = log.stat().st_size
            shutil.rmtree(service.log_dir.rename(tmp_path / "removed"))
            fcntl.flock(removed, fcntl.LOCK_UN)
            wait_for(lambda: log.exists() and log.stat().st_size > 5000, "lines in a new file")
        with removed:
            lines = removed.read().splitlines()
            assert os.fstat(removed.fileno()).st_size == size

    assert set(statuses.values()) == {200}
    assert sorted([*lines, *service.records("log")]) == lines_of(statuses)


@in_process_to_files
def test_folder_made_read_only(installed: Installed, tmp_path: Path) -> None:
    # Permissions do not count for root, unless it gives this right up.
    launcher = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()
    with serve(installed, tmp_path, launcher=launcher) as service:
        service.post("/log/?message=before")
        service.expect("log", "before")
        log = service.log_dir / "log.txt"
        log.chmod(0o400)
        service.log_dir.chmod(0o500)
        assert service.post("/log/?message=kept").status == 200
        wait_for(lambda: "Permission denied" in service.server.said(), "the failure in the log")
        assert "write_log" in service.server.said()
        assert service.get("/health/ready").status == 503

        service.log_dir.chmod(0o700)
        log.chmod(0o600)
        service.expect("log", "before", "kept")
        assert service.get("/health/ready").status == 200


@in_process_to_stdout
def test_reader_stops_and_goes_on(installed: Installed, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    statuses: dict[str, int] = {}
    with (
        os.fdopen(reader) as pipe,
        serve(installed, tmp_path, *container_options(installed), stdout=writer) as service,
    ):
        os.close(writer)
        flood(service.port, numbered(range(1200)), statuses)
        reply = service.get("/health/live")
        assert (reply.status, reply.body) == (200, {"status": "ok"})
        assert reply.seconds < 1
        assert service.get("/health/ready").status == 503

        lines = [json.loads(next(pipe))["line"] for _ in statuses]
        assert service.get("/health/ready").status == 200

    assert set(statuses.values()) == {200}
    assert sorted(lines) == lines_of(statuses)


@in_process_to_stdout
def test_reader_goes_away(installed: Installed, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with serve(installed, tmp_path, *container_options(installed), stdout=writer) as service:
        os.close(writer)
        os.close(reader)
        replies = [service.post("/log/?message=lost") for _ in range(20)]
        wait_for(lambda: "Broken pipe" in service.server.said(), "the failure in the log")

        assert [reply.status for reply in replies] == [200] * 20
        assert "write_log" in service.server.said()
        assert service.get("/health/ready").status == 503
        assert service.get("/health/live").status == 200


def overload(service: Service, statuses: dict[str, int]) -> None:
    """Send requests until there is no room for their tasks, and many more."""
    memories = []
    for start in range(0, 20_000, 2000):
        flood(service.port, numbered(range(start, start + 2000)), statuses)
        memories.append(memory(service.server))

    assert set(statuses.values()) == {200, 503}
    assert memories[-1] - memories[0] < 5_000_000


@in_process_to_files
def test_sink_hangs(installed: Installed, tmp_path: Path) -> None:
    statuses: dict[str, int] = {}
    with serve(installed, tmp_path, *container_options(installed)) as service:
        with (service.log_dir / "log.txt").open() as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            assert service.post("/log/?message=first").status == 200
            reply = service.get("/health/live")
            assert (reply.status, reply.seconds < 1) == (200, True)
            overload(service, statuses)

        wait_for(lambda: len(service.records("log")) > len(lines_of(statuses)), "the lines")
        assert sorted(service.records("log")) == sorted(["first", *lines_of(statuses)])
        assert service.get("/health/ready").status == 200


@in_process_to_stdout
def test_standard_output_hangs(installed: Installed, tmp_path: Path) -> None:
    statuses: dict[str, int] = {}
    reader, writer = os.pipe()
    with (
        os.fdopen(reader) as pipe,
        serve(installed, tmp_path, *container_options(installed), stdout=writer) as service,
    ):
        os.close(writer)
        overload(service, statuses)

        lines = [json.loads(next(pipe))["line"] for _ in lines_of(statuses)]
        assert sorted(lines) == lines_of(statuses)
        wait_for(lambda: service.get("/health/ready").status == 200, "the service to recover")


@in_process_to_files
def test_failing_task(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path) as service:
        obstacle = service.log_dir / "task_log.txt"
        obstacle.unlink()
        obstacle.mkdir()
        connection = http.client.HTTPConnection("127.0.0.1", service.port)

        def post(path: str) -> int:
            connection.request("POST", path)
            response = connection.getresponse()
            response.read()
            return response.status

        assert post("/complex-task/") == 200
        start = time.monotonic()
        # On the connection of the request whose task fails.
        wait_for(
            lambda: post("/log/?message=beside") == 200 and "for good" in service.server.said(),
            "the task to fail for good",
            seconds=90,
        )
        assert time.monotonic() - start > 60
        assert post("/log/?message=after") == 200
        wait_for(lambda: service.records("log")[-1] == "after", "the last line")
        assert service.records("emails") == []
        assert service.server.said().count("Task write_log failed for good") == 1
        assert service.server.said().count("Exception in ASGI application") == 0
        connection.close()


SLOW_TASKS = """
import time
from myservice import sink
write = sink.write

def write_slowly(channel, line):
    time.sleep(0.02)
    write(channel, line)

sink.write = write_slowly
"""


@on_redis
def test_workers_killed_and_redis_restarted(installed: Installed, tmp_path: Path) -> None:
    # Python imports a module of this name at its start.
    (tmp_path / "sitecustomize.py").write_text(SLOW_TASKS)
    slow = {"PYTHONPATH": str(tmp_path)}
    seed = time.time_ns() % 1000
    chance = random.Random(seed)  # noqa: S311
    faults = ["child"] * 6 + ["worker"] * 3 + ["Redis"]
    chance.shuffle(faults)
    print(f"seed {seed}: {faults}")
    statuses: dict[str, int] = {}
    with serve(installed, tmp_path, workers=0) as service:
        assert service.redis
        workers = [service.start_worker(**slow) for _ in range(2)]

        def keep_running() -> None:
            """Start anew what has ended, as compose does."""
            workers[:] = [worker if worker.runs() else service.start_worker(**slow) for worker in workers]

        def arrived() -> set[str]:
            keep_running()
            return set(service.records("log"))

        flood(service.port, numbered(range(1000)), statuses, connections=8)
        assert set(statuses.values()) == {200}
        wait_for(arrived, "the first task")
        for fault in faults:
            time.sleep(chance.uniform(0.1, 0.5))
            keep_running()
            worker = chance.choice(workers)
            if fault == "child":
                for child in processes_of(worker)[-1:]:
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
            elif fault == "worker":
                worker.kill()
            else:
                service.redis.process.stop()
                service.redis.start()
        assert len(arrived()) < 1000, "everything was done before the last fault"
        wait_for(lambda: len(arrived()) >= 1000, "every task", seconds=400)

        twice = len(service.records("log")) - 1000
        print(f"{installed.engine}: {twice} of 1,000 tasks ran twice")
        assert sorted(set(service.records("log"))) == lines_of(statuses)
