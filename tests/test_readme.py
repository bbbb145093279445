"""Every command in both READMEs works as it stands there, in the order in which a reader meets it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, PROMPTS, TEMPLATE, Bake
from serving import answers, free_port, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the READMEs are written for a POSIX shell")


def commands(readme: Path) -> list[str]:
    """The lines of the console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@dataclass
class Shell:
    """Runs commands one after the other, as a reader with two terminals would: servers go on, one at a time."""

    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None

    def run(self, command: str, stdin: str = "") -> str:
        """Run a command to its end and return what it printed; fails if the command does."""
        command = command.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        result = subprocess.run(
            ["bash", "-c", command],
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
        """Start a server in the place of the one before, and wait until it answers."""
        self.stop()
        with output.open("wb") as stdout:
            self.server = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environment | {"PORT": str(self.port), "UVICORN_PORT": str(self.port)},
                stdout=stdout,
                start_new_session=True,
            )
        wait_for(lambda: answers(f"http://127.0.0.1:{self.port}/health/ready"), command, seconds=120)

    def stop(self) -> None:
        """Stop the server, and wait until the port is free again."""
        if self.server:
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(timeout=30)
            wait_for(lambda: not answers(f"http://127.0.0.1:{self.port}/health/live"), "the server to stop")
            self.server = None


@contextmanager
def shell(folder: Path, scratch: Path) -> Iterator[Shell]:
    """A shell in `folder`, with a home and a Python of its own, so that nothing else is touched."""
    venv.create(scratch / "python", with_pip=True)
    cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    own = {
        "HOME": str(scratch),
        "PATH": f"{scratch / 'python' / 'bin'}{os.pathsep}{ENVIRONMENT['PATH']}",
        "UV_CACHE_DIR": cache,
    }
    shell = Shell(folder, ENVIRONMENT | own)
    try:
        yield shell
    finally:
        shell.stop()


def is_server(command: str) -> bool:
    return "fastapi dev" in command or "uvicorn " in command


def test_template_readme(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(".git", ".venv", "uv.lock", "myservice", "__pycache__", ".*_cache")
    clone = shutil.copytree(TEMPLATE, tmp_path / "clone", ignore=ignored)
    with shell(clone, tmp_path) as terminal:
        for command in commands(TEMPLATE / "README.md"):
            if is_server(command):
                terminal.start(command, tmp_path / "output.txt")
            elif command.startswith("cat "):
                wait_for(lambda command=command: terminal.run(command) == "hello\n", command)
            elif command == "uvx cookiecutter .":
                # To be asked is what this one is about.
                assert "Name of the service" in terminal.run(command, "Asked Desk" + "\n" * len(PROMPTS))
            elif command.endswith("uv run pytest"):
                # All of them would include this one.
                assert " passed" in terminal.run(f"{command} tests/test_prompts.py")
            else:
                terminal.run(command)

    assert (clone / "asked-desk" / "pyproject.toml").is_file()
    assert (clone / "again" / "stock-desk" / ".gitlab-ci.yml").is_file()


@pytest.mark.parametrize("sink", PROMPTS["sink"])
def test_project_readme(bake: Bake, tmp_path: Path, sink: str) -> None:
    project = bake(sink=sink)
    readme = project / "README.md"
    output = tmp_path / "output.txt"
    with shell(project, tmp_path) as terminal:
        for command in commands(readme):
            if is_server(command):
                terminal.start(command, output)
            # There may be no container engine where these tests run.
            elif not command.startswith("docker "):
                terminal.run(command)

    examples = readme.read_text(encoding="utf-8").partition("\n## Examples\n")[2].partition("\n## ")[0]
    promised = re.findall(r"`([^`]+)`,? \| `([^`]+)` \|$", examples, re.MULTILINE)
    assert len(promised) == 5
    for line, place in promised:
        if sink == "file":
            written = (project / place).read_text(encoding="utf-8").splitlines()
        else:
            records = [json.loads(record) for record in output.read_text(encoding="utf-8").splitlines()]
            written = [record["line"] for record in records if record["channel"] == place]
        assert line in written


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = {line for line in commands(TEMPLATE / "README.md") if line.endswith("uv run pytest")}

    assert command in (TEMPLATE / ".ci" / "run").read_text(encoding="utf-8").splitlines()
