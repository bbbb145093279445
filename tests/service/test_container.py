"""Builds the image in a folder, without a container engine, and starts and stops its services."""

import copy
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from string import Template
from urllib.request import urlopen

import pytest
import yaml
from conftest import ENVIRONMENT, PROMPTS, Bake, generate
from serving import Process, Redis, free_port, redis_binary, send, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the image is a Linux system")

# The settings of this machine for package indexes. A build uses nothing else of its environment.
NETWORK = re.compile(r"TMPDIR|PIP_.*|UV_(DEFAULT_)?INDEX(_URL)?|SSL_CERT_.*|.*_PROXY", re.IGNORECASE)
GRACE = 10  # seconds that Docker waits before it kills, unless it is told otherwise


@dataclass
class Stage:
    """The settings of a stage, its users, and the owners of its folders."""

    folder: Path
    env: dict[str, str]
    users: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)


class Image:
    """The stages of a Dockerfile, followed without a container engine.

    All stages use the same `root`, one at a time, and the others are moved aside: scripts of a virtual environment
    contain its path, which in a container is the same in each stage.
    """

    def __init__(self, project: Path, folder: Path) -> None:
        """Follow the Dockerfile; raises CalledProcessError from RUN, FileNotFoundError from COPY if they fail."""
        self.root, self.aside, self.context = folder / "root", folder / "aside", folder / "context"
        self.project = project
        self.compose = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))["services"]
        self.stages: dict[str, Stage] = {}
        self.name = ""
        self.aside.mkdir(parents=True)
        copy_context(project, self.context)
        for instruction, text in instructions(project):
            self._follow(instruction, text)

    def path(self, text: str) -> str:
        """Return a text with its absolute paths moved below the root folder."""
        return re.sub(r"(?<![\w./])/(?=\w)", f"{self.root}/", text)

    def enter(self, name: str) -> Stage:
        """Put the file system of a stage in its place, and return the stage."""
        self._leave()
        (self.aside / name).rename(self.root)
        self.name = name
        return self.stages[name]

    def _leave(self) -> None:
        if self.root.exists():
            self.root.rename(self.aside / self.name)

    def _follow(self, instruction: str, text: str) -> None:
        match instruction:
            case "FROM":
                base, _, name = text.partition(" AS ")
                self._begin(base, name or "final")
            case "WORKDIR":
                folder = Path(self.path(text))
                folder.mkdir(parents=True, exist_ok=True)
                self.stages[self.name].folder = folder
            case "ENV":
                env = self.stages[self.name].env
                new = dict(setting.split("=", 1) for setting in shlex.split(text))
                env |= {name: Template(self.path(value)).substitute(env) for name, value in new.items()}
            case "COPY":
                self._copy(text.split())
            case "RUN":
                self._run(text)
            case "USER" | "VOLUME" | "EXPOSE" | "HEALTHCHECK" | "STOPSIGNAL" | "CMD":
                self.stages[self.name].said[instruction] = text
            case _:
                raise NotImplementedError(instruction)

    def _begin(self, base: str, name: str) -> None:
        self._leave()
        if base not in self.stages:
            assert re.fullmatch(r"python:3\.\d+-slim", base)
            local = self.root / "usr" / "local"
            # The base image has a Python with pip.
            create = ["uv", "venv", "--quiet", "--seed", "--python", sys.executable, local]
            subprocess.run(create, env=ENVIRONMENT, check=True)
            self.stages[base] = Stage(self.root, {"PATH": f"{local}/bin:/usr/bin:/bin", "HOME": f"{self.root}/root"})
            self.root.rename(self.aside / base)
        shutil.copytree(self.aside / base, self.root, symlinks=True)
        self.stages[name] = copy.deepcopy(self.stages[base])
        self.name = name

    def _copy(self, words: list[str]) -> None:
        source = self.aside / words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else self.context
        *names, target = words
        for name in names:
            path, to = source / name.lstrip("/"), self.stages[self.name].folder / self.path(target)
            if path.is_dir():
                shutil.copytree(path, to, symlinks=True)
            else:
                shutil.copy(path, to)

    def _run(self, text: str) -> None:
        stage = self.stages[self.name]
        match text.split():
            # Only root may create users and change owners.
            case ["useradd", "--system", "--uid", uid, name]:
                stage.users[name] = uid
                return
            case ["install", "--directory", owner, folder]:
                stage.owners[folder] = stage.users[owner.removeprefix("--owner=")]
                text = text.replace(owner, "")
        network = {name: value for name, value in ENVIRONMENT.items() if NETWORK.fullmatch(name)}
        command = ["sh", "-c", self.path(text)]
        subprocess.run(command, cwd=stage.folder, env=network | stage.env, check=True, capture_output=True, text=True)

    def files(self) -> set[Path]:
        """Return the files of the current stage, without those of the volume and of /tmp."""
        return {path for path in self.root.rglob("*") if path.relative_to(self.root).parts[0] not in ("records", "tmp")}


def instructions(project: Path) -> Iterator[list[str]]:
    """Return the instructions of a project's Dockerfile with their texts."""
    lines = (project / "Dockerfile").read_text(encoding="utf-8").splitlines(keepends=True)
    logical = "".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    return (line.split(maxsplit=1) for line in logical.splitlines() if line)


def copy_context(project: Path, context: Path) -> None:
    """Copy the files that .dockerignore does not exclude. The last line that matches a file or its folder counts."""
    patterns = (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for file in filter(Path.is_file, project.rglob("*")):
        path = file.relative_to(project)
        names = [str(name) for name in (path, *path.parents[:-1])]
        counts = [line for line in patterns if any(fnmatch(name, line.removeprefix("!")) for name in names)]
        if not counts or counts[-1].startswith("!"):
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, context / path)


def lock(project: Path) -> None:
    """Write uv.lock, as the first `uv run` does."""
    subprocess.run(["uv", "lock"], cwd=project, env=ENVIRONMENT, check=True, capture_output=True)


def build(folder: Path, sink: str, engine: str) -> Image:
    """Build the image of a project that has been worked with."""
    project = generate(folder, sink=sink, engine=engine)
    lock(project)
    for name in (".env", ".git/config", ".venv/bin/python", "records/log.txt", "src/myservice/__pycache__/main.pyc"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("SERVICE_NAME=", encoding="utf-8")
    return Image(project, folder / "image")


class Containers:
    """Processes of an image, with only the environment that the image and compose give them."""

    def __init__(self, image: Image, folder: Path, stack: ExitStack) -> None:
        """Prepare to start services of compose, which end with `stack`."""
        self.image, self.folder, self.stack = image, folder, stack
        self.stage = image.enter("final")
        self.port = str(free_port())
        self.env = self.stage.env | {"UVICORN_PORT": self.port, "HOSTNAME": socket.gethostname()}
        if "redis" in image.compose:
            redis = Redis(folder)
            stack.callback(redis.process.kill)
            self.env |= {"REDIS_URL": redis.url, "HEARTBEAT_INTERVAL": "1"}

    def start(self, service: str) -> Process:
        """Start a service, and wait until it is healthy."""
        compose = self.image.compose[service]
        command = compose.get("command") or json.loads(self.stage.said["CMD"])
        # Unlike in a container, all interfaces of this machine would be open.
        command = [word.replace("0.0.0.0", "127.0.0.1") for word in command]  # noqa: S104
        process = Process(command, self.stage.folder, self.env, self.folder / f"{service}.txt")
        self.stack.callback(process.kill)
        check = compose.get("healthcheck", {})
        if not check.get("disable"):
            image_check = json.loads(self.stage.said["HEALTHCHECK"].partition("CMD ")[2])
            test = check.get("test") or ["CMD", *(word.replace("8000", self.port) for word in image_check)]
            wait_for(lambda: not process.runs() or self._passes(*test), f"{service} to be healthy")
        assert process.runs(), process.said()
        return process

    def _passes(self, kind: str, *test: str) -> bool:
        command = ["sh", "-c", test[0].replace("$$", "$")] if kind == "CMD-SHELL" else test
        return subprocess.run(command, cwd=self.stage.folder, env=self.env, capture_output=True).returncode == 0

    def lines(self, writer: Process, channel: str) -> list[str]:
        """Return the lines of a channel, from the volume or from the output of a process."""
        if "RECORDS_DIR" in self.stage.env:
            file = Path(self.image.path(self.stage.said["VOLUME"])) / f"{channel}.txt"
            return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        records = map(json.loads, writer.output)
        return [record["line"] for record in records if record["channel"] == channel]


def check_services(image: Image, folder: Path) -> None:
    """Check that the services become healthy, work, and stop before Docker would kill them."""
    with ExitStack() as stack:
        containers = Containers(image, folder, stack)
        files = image.files()
        services = [name for name in image.compose if name not in ("redis", "proxy", "monitor")]
        processes = {name: containers.start(name) for name in services}
        writer = processes.get("worker", processes["api"])
        assert send(f"http://127.0.0.1:{containers.port}/log/?message=hello").status == 200
        wait_for(lambda: containers.lines(writer, "log") == ["hello"], "the line")
        if "scheduler" in processes:
            wait_for(lambda: containers.lines(writer, "service_log"), "a heartbeat")
        for name, process in processes.items():
            start = time.monotonic()
            process.signal(signal.Signals[containers.stage.said.get("STOPSIGNAL", "SIGTERM")])
            status = process.wait()
            assert time.monotonic() - start < GRACE
            # When it has finished, uvicorn raises the signal again; the first process of a container ignores that.
            assert status == 0 or (name == "api" and "Finished server process" in process.said()), process.said()
        # Compose lets them write to no other place.
        assert image.files() == files


def check_contents(image: Image) -> None:
    """Check that the image is built from the files that it needs, and contains no tools."""
    src = {str(path.relative_to(image.project)) for path in image.project.glob("src/*/*") if path.is_file()}
    context = {str(path.relative_to(image.context)) for path in image.context.rglob("*") if path.is_file()}
    assert context == {"LICENSE", "README.md", "pyproject.toml", "uv.lock", *src}

    stage = image.enter("final")
    assert [path.name for path in (image.root / "app").iterdir()] == [".venv"]
    names = "import importlib.metadata as m, json; print(json.dumps([d.name.lower() for d in m.distributions()]))"
    installed = set(json.loads(subprocess.check_output(["python", "-c", names], env=stage.env)))
    groups = tomllib.loads((image.project / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    unwanted = {re.split(r"[>=]", requirement)[0] for group in groups.values() for requirement in group}
    assert "myservice" in installed
    assert {"pytest", "mypy", "ruff"} < unwanted
    assert installed.isdisjoint(unwanted)
    assert stage.said["USER"] in stage.users.values()
    assert stage.said["EXPOSE"] == "8000"
    assert "8000" in stage.said["HEALTHCHECK"]
    if "VOLUME" in stage.said:
        assert stage.owners[stage.said["VOLUME"]] == stage.said["USER"]


def check_monitor(image: Image, folder: Path, page: str) -> None:
    """Check that the monitor shows a page that it reads from the Redis of its only variable."""
    stage = image.enter("monitor")
    assert stage.said["USER"] in stage.users.values()
    compose = image.compose["monitor"]
    (variable,) = compose["environment"]
    port = str(free_port())
    # Unlike in a container, all interfaces of this machine would be open.
    command = [word.replace("0.0.0.0", "127.0.0.1") for word in compose["command"]]  # noqa: S104
    env = stage.env | {"FLOWER_ADDRESS": "127.0.0.1", "FLOWER_PORT": port, "RQ_DASHBOARD_PORT": port}
    with ExitStack() as stack:
        redis = Redis(folder)
        stack.callback(redis.process.kill)
        monitor = Process(command, stage.folder, env | {variable: redis.url}, folder / "monitor.txt")
        stack.callback(monitor.kill)

        def shown() -> bool:
            with suppress(OSError):
                return urlopen(f"http://127.0.0.1:{port}{page}").status == 200
            return False

        wait_for(lambda: shown() or not monitor.runs(), f"{page} of the monitor")
        assert monitor.runs(), monitor.said()


@pytest.mark.parametrize(
    ("sink", "engine"),
    [
        ("stdout", "background"),
        pytest.param("file", "celery", marks=pytest.mark.faults),
        pytest.param("file", "rq", marks=pytest.mark.faults),
    ],
)
def test_image(sink: str, engine: str, tmp_path: Path, subtests: pytest.Subtests) -> None:
    image = build(tmp_path, sink, engine)
    with subtests.test("contents"):
        check_contents(image)
    with subtests.test("services"):
        check_services(image, tmp_path)
    if "monitor" in image.compose:
        with subtests.test("monitor"):
            check_monitor(image, tmp_path, {"celery": "/broker", "rq": "/0/data/queues.json"}[engine])


@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_requests_get_less_time_than_the_container(bake: Bake, engine: str) -> None:
    project = bake(engine=engine)
    command = json.loads(dict(instructions(project))["CMD"])
    compose = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))
    grace = compose["services"]["api"].get("stop_grace_period", f"{GRACE}s")
    assert 0 < int(command[command.index("--timeout-graceful-shutdown") + 1]) < int(grace.removesuffix("s"))


@pytest.mark.parametrize("engine", ["celery", "rq"])
def test_redis_asks_for_its_password(bake: Bake, tmp_path: Path, engine: str) -> None:
    compose = yaml.safe_load((bake(engine=engine) / "compose.yaml").read_text(encoding="utf-8"))
    command = shlex.split(compose["services"]["redis"]["command"].replace("${REDIS_PASSWORD}", "hunter2"))
    port = free_port()
    redis = Process([redis_binary(), *command[1:], "--port", str(port)], tmp_path, ENVIRONMENT, tmp_path / "redis.txt")

    def answer(commands: str) -> str:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(commands.encode())
            connection.shutdown(socket.SHUT_WR)
            return connection.makefile().read()
        return ""

    try:
        wait_for(lambda: answer("PING\r\n"), "Redis to answer")
        assert answer("PING\r\n").startswith("-NOAUTH")
        assert answer("AUTH hunter2\r\nPING\r\n") == "+OK\n+PONG\n"
    finally:
        redis.kill()


@pytest.mark.faults
def test_only_what_is_locked_gets_installed(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    with pytest.raises(FileNotFoundError, match=r"uv\.lock"):
        Image(project, tmp_path / "unlocked")
    lock(project)
    settings = project / "pyproject.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace('"anyio>=', '"idna", "anyio>='), "utf-8")
    with pytest.raises(subprocess.CalledProcessError) as error:
        Image(project, tmp_path / "outdated")
    assert "lockfile" in error.value.stderr
