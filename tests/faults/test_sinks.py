"""Full disks, folders that are gone, readers that stop. docs/guarantees.md has a row for each test."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from conftest import Installed, variants
from loads import flood, flooded, lines_of, numbered
from serving import SERVER, Process, Service, container_options, refused_start, serve, wait_for

if sys.platform != "linux":
    pytest.skip("faults are made with what Linux offers", allow_module_level=True)

import fcntl

pytestmark = pytest.mark.faults

# Permissions do not count for root, unless it gives up this right.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()

to_files = pytest.mark.parametrize("installed", variants(["file"]), indirect=True)
in_process_to_files = pytest.mark.parametrize("installed", variants(["file"], ["background"]), indirect=True)
in_process_to_stdout = pytest.mark.parametrize("installed", variants(["stdout"], ["background"]), indirect=True)


@contextmanager
def files_limited_to(size: int, processes: list[Process]) -> Iterator[None]:
    """Let processes write no file longer than `size` bytes, as on a full disk."""
    limits = {}
    for each in [each for process in processes for each in process.tree()]:
        with suppress(psutil.NoSuchProcess):  # the process of a task has ended
            _, hard = limits[each] = each.rlimit(psutil.RLIMIT_FSIZE)
            each.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
    yield
    for each, limit in limits.items():
        with suppress(psutil.NoSuchProcess):
            each.rlimit(psutil.RLIMIT_FSIZE, limit)


def is_open(process: Process, path: Path) -> bool:
    """Return whether a process or a descendant of it has a file open."""
    return any(str(path) == file.path for each in process.tree() for file in each.open_files())


@to_files
def test_full_disk(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    log = tmp_path / "records" / "log.txt"
    # Longer than the logs of the processes, which must still be able to grow.
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
        log = service.records_dir / "log.txt"
        with flooded(service) as statuses:
            for number in range(5):
                wait_for(lambda: log.exists() and log.stat().st_size > 5000, "lines")
                log.rename(log.with_name(f"log.{number}"))

    lines = [line for file in service.records_dir.glob("log.*") for line in file.read_text().splitlines()]
    assert set(statuses.values()) == {200}
    assert sorted(lines) == lines_of(statuses)


@in_process_to_files
def test_folder_removed(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, "--workers=2", "--no-access-log") as service:
        log = service.records_dir / "log.txt"
        removed = log.open()
        with flooded(service) as statuses:
            wait_for(lambda: log.stat().st_size > 5000, "lines")
            fcntl.flock(removed, fcntl.LOCK_EX)
            wait_for(lambda: is_open(service.server, log), "a server to wait for the lock")
            size = log.stat().st_size
            shutil.rmtree(service.records_dir.rename(tmp_path / "removed"))
            fcntl.flock(removed, fcntl.LOCK_UN)
            wait_for(lambda: log.exists() and log.stat().st_size > 5000, "lines in a new file")
        with removed:
            lines = removed.read().splitlines()
            assert os.fstat(removed.fileno()).st_size == size

    assert set(statuses.values()) == {200}
    assert sorted([*lines, *service.records("log")]) == lines_of(statuses)


@in_process_to_files
def test_folder_made_read_only(installed: Installed, tmp_path: Path) -> None:
    with serve(installed, tmp_path, launcher=UNPRIVILEGED) as service:
        service.post("/log/?message=before")
        service.expect("log", "before")
        log = service.records_dir / "log.txt"
        log.chmod(0o400)
        service.records_dir.chmod(0o500)
        assert service.post("/log/?message=kept").status == 200
        wait_for(lambda: "Permission denied" in service.server.said(), "the failure in the log")
        assert "write_log" in service.server.said()
        assert service.get("/health/ready").status == 503

        service.records_dir.chmod(0o700)
        log.chmod(0o600)
        service.expect("log", "before", "kept")
        assert service.get("/health/ready").status == 200


@in_process_to_files
def test_services_share_a_folder(installed: Installed, tmp_path: Path) -> None:
    messages = [f"{number}-{'🚀' * 900}" for number in range(400)]
    with ExitStack() as stack:
        services = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            folder = str(tmp_path / "shared")
            services.append(stack.enter_context(serve(installed, tmp_path / name, "--workers=2", RECORDS_DIR=folder)))
        with ThreadPoolExecutor(max_workers=16) as pool:
            requests = [(services[number % 2], f"/log/?message={quote(text)}") for number, text in enumerate(messages)]
            replies = list(pool.map(lambda request: request[0].post(request[1]), requests))

    assert {reply.status for reply in replies} == {200}
    assert sorted((tmp_path / "shared" / "log.txt").read_text(encoding="utf-8").splitlines()) == sorted(messages)


@in_process_to_files
def test_folder_of_another_user(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "log.txt").touch(mode=0)
    folder = str(tmp_path / "records")
    status, said = refused_start(installed, tmp_path, *SERVER, "--port=0", launcher=UNPRIVILEGED, RECORDS_DIR=folder)

    assert status != 0
    assert said.startswith("Cannot start: Records cannot be written: RECORDS_DIR: [Errno 13] Permission denied")


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
        memories.append(psutil.Process(service.server.pid).memory_info().rss)

    assert set(statuses.values()) == {200, 503}
    assert memories[-1] - memories[0] < 5_000_000


@in_process_to_files
def test_sink_hangs(installed: Installed, tmp_path: Path) -> None:
    statuses: dict[str, int] = {}
    with serve(installed, tmp_path, *container_options(installed)) as service:
        with (service.records_dir / "log.txt").open() as log:
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
