"""Every command in both READMEs works as it stands there, in the order in which a reader meets it."""

import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, PROMPTS, TEMPLATE, TOOLS, Bake
from serving import Redis, free_port, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the READMEs are written for a POSIX shell")


def commands(readme: Path) -> list[str]:
    """The lines of the console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@dataclass
class Shell:
    """Runs commands one after the other, as a reader with several terminals would: servers go on meanwhile."""

    folder: Path
    environment: dict[str, str]
    api: int = field(default_factory=free_port)
    monitor: int = field(default_factory=free_port)
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, command: str, stdin: str = "") -> str:
        """Run a command to its end and return what it printed; fails if the command does."""
        result = subprocess.run(
            ["bash", "-c", command.replace("127.0.0.1:8000", f"127.0.0.1:{self.api}")],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}"
        return result.stdout

    def start(self, command: str, output: Path) -> None:
        """Start a server, in the place of one that would need the same port, and wait until it is there."""
        kind = next(kind for kind in SERVERS if kind in command)
        port = {"fastapi dev": self.api, "uvicorn": self.api, "flower": self.monitor, "rq-dashboard": self.monitor}.get(
            kind
        )
        if port == self.api:
            self.stop("fastapi dev")
        ports = {
            **dict.fromkeys(["PORT", "UVICORN_PORT"], str(self.api)),
            **dict.fromkeys(["FLOWER_PORT", "RQ_DASHBOARD_PORT"], str(self.monitor)),
        }
        with output.open("ab") as stdout:
            self.servers[kind] = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environment | ports,
                stdout=stdout,
                start_new_session=True,
            )
        if port:
            wait_for(lambda: listens(port), command, seconds=120)

    def stop(self, kind: str) -> None:
        """Stop a server, and wait until it is gone."""
        if server := self.servers.pop(kind, None):
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=20)
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


# What goes on until it is stopped.
SERVERS = (
    "fastapi dev",
    "uvicorn",
    "flower",
    "rq-dashboard",
    ".worker worker",
    ".worker beat",
    ".worker",
    ".scheduler",
)


def listens(port: int) -> bool:
    """Whether something listens at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def shell(folder: Path, scratch: Path, *, pip: bool = False) -> Iterator[Shell]:
    """A shell in `folder`, with a home and a Python of its own, so that nothing else is touched."""
    venv.create(scratch / "python", with_pip=pip)
    cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    own = {
        "HOME": str(scratch),
        "PATH": f"{scratch / 'python' / 'bin'}{os.pathsep}{ENVIRONMENT['PATH']}",
        "UV_CACHE_DIR": cache,
        **{f"GIT_{role}_{field}": "ada@example.com" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")},
    }
    shell = Shell(folder, ENVIRONMENT | own)
    try:
        yield shell
    finally:
        for kind in list(shell.servers):
            shell.stop(kind)


def is_server(command: str) -> bool:
    return any(kind in command for kind in SERVERS)


def test_template_readme(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=TEMPLATE, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TEMPLATE / name, clone / name)
    with shell(clone, tmp_path, pip=True) as terminal:
        terminal.run("git init --quiet && git add --all && git commit --quiet --message Clone")
        for command in commands(TEMPLATE / "README.md"):
            if is_server(command):
                terminal.start(command, tmp_path / "output.txt")
            elif command.startswith("cat "):
                wait_for(lambda command=command: terminal.run(command) == "hello\n", command)
            elif command == "uvx cookiecutter .":
                # To be asked is what this one is about.
                assert "Name of the service" in terminal.run(command, "Asked Desk" + "\n" * len(PROMPTS))
            elif "benchmarks" in command:
                terminal.run(f"{command} --help")
            elif command.endswith(("uv run pytest", "exhaustive")):
                # All of them would include this one, and take too long.
                selection = "--collect-only" if "exhaustive" in command else "tests/test_prompts.py"
                assert re.search(r"[1-9]\d* passed|tests collected", terminal.run(f"{command} {selection}"))
            else:
                terminal.run(command)

    assert (clone / "asked-desk" / "pyproject.toml").is_file()
    assert (clone / "again" / "stock-desk" / ".gitlab-ci.yml").is_file()
    assert (clone / "fresh-desk" / "src" / "fresh_desk" / "worker.py").is_file()


@pytest.mark.parametrize("sink", PROMPTS["sink"])
@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_project_readme(bake: Bake, tmp_path: Path, sink: str, engine: str) -> None:
    project = bake(sink=sink, engine=engine)
    readme = project / "README.md"
    output = tmp_path / "output.txt"
    with shell(project, tmp_path) as terminal, ExitStack() as stack:
        if engine != "background":
            redis = Redis(tmp_path)
            stack.callback(redis.process.kill)
            stack.callback(lambda: [terminal.stop(kind) for kind in list(terminal.servers)])
            terminal.environment |= {"REDIS_URL": redis.url, "RQ_DASHBOARD_REDIS_URL": redis.url}
        for command in commands(readme):
            if is_server(command):
                terminal.start(command, output)
            # There may be no container engine where these tests run, and `test_tool_passes` runs the tools.
            elif not command.startswith(("docker ", *(f"uv run {tool}" for tool in TOOLS))):
                terminal.run(command)

        examples = readme.read_text(encoding="utf-8").partition("\n## Examples\n")[2].partition("\n## ")[0]
        promised = re.findall(r"^\|.*\| (?:and only then )?(.+?),? \| `([^`]+)` \|$", examples, re.MULTILINE)
        promised = [(re.sub(r"[`\\]", "", line), place) for line, place in promised]
        assert len(promised) == 5

        def written(place: str) -> list[str]:
            if sink == "file":
                return (project / place).read_text(encoding="utf-8").splitlines()
            lines = [line for line in output.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
            return [record["line"] for record in map(json.loads, lines) if record["channel"] == place]

        for line, place in promised:
            wait_for(lambda line=line, place=place: line in written(place), f"{line} in {place}")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = {line for line in commands(TEMPLATE / "README.md") if line.endswith("uv run pytest")}

    assert command in (TEMPLATE / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_fault_has_its_row() -> None:
    table = (
        (TEMPLATE / "README.md").read_text(encoding="utf-8").partition("## What happens when")[2].partition("\n## ")[0]
    )
    command = ["pytest", "--collect-only", "-q", "-n0", "-m", "faults"]
    collected = subprocess.run(
        command, cwd=TEMPLATE, env=ENVIRONMENT | {"PYTEST_ADDOPTS": ""}, capture_output=True, text=True, check=True
    ).stdout

    assert set(re.findall(r"`(test_\w+)`", table)) == set(re.findall(r"::(test_\w+)", collected))


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (TEMPLATE / "README.md").read_text(encoding="utf-8")))
    code = "".join(file.read_text(encoding="utf-8") for file in (TEMPLATE / "tests").glob("*.py"))

    assert {name for name in named if f"def {name}(" not in code} == set()


def test_pictures_show_what_is_asked_and_said() -> None:
    """They are made of real output; this sees that the output has not changed since."""

    def shown(name: str) -> str:
        picture = (TEMPLATE / "pictures" / name).read_text(encoding="utf-8")
        # Each piece of one colour has an element of its own.
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<title>.*?</title>|<[^>]+>", "", picture)))

    labels = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))["__prompts__"]
    questions = [label if isinstance(label, str) else label["__prompt__"] for label in labels.values()]
    choices = [
        text for label in labels.values() if isinstance(label, dict) for key, text in label.items() if key[0] != "_"
    ]
    for text in [*questions, *choices, "order-desk is ready.", "uv run --directory order-desk fastapi dev"]:
        assert " ".join(text.split()) in shown("generate.svg"), text
    (routes,) = TEMPLATE.glob("*cookiecutter.project_slug*/src/*/routes.background.py")
    for text in re.findall(r'Scheduled\(message="(.+?)"\)', routes.read_text(encoding="utf-8")):
        assert f'{{"message":"{text}"}}' in shown("run.svg"), text
