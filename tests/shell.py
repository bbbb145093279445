"""A shell in which a reader types the commands of the READMEs."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from conftest import ENVIRONMENT
from serving import Process, free_port, redis_binary, wait_for

# Commands that run until they are stopped.
SERVERS = re.compile(r"^redis-server|(fastapi dev|poe monitor|worker|beat|scheduler)$")


def commands(text: str) -> list[str]:
    """Return the lines of the console blocks in a text."""
    blocks = re.findall(r"^ *```console\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


def listens(port: int) -> bool:
    """Return whether something listens at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Shell:
    """Runs commands one after the other in `folder`, and servers beside them, as a reader with several terminals."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Prepare a home and a Python in `scratch`, so that nothing else is changed, and ports that are free."""
        self.folder, self.scratch = folder, scratch
        self.api, self.monitor, self.redis = free_port(), free_port(), free_port()
        self.servers: dict[str, Process] = {}
        python = scratch / "python"
        create = ["uv", "venv", "--quiet", "--seed", "--python", sys.executable, str(python)]
        subprocess.run(create, env=ENVIRONMENT, check=True)
        self.environment = ENVIRONMENT | {
            "HOME": str(scratch),
            "PATH": f"{python / 'bin'}{os.pathsep}{ENVIRONMENT['PATH']}",
            "UV_CACHE_DIR": subprocess.check_output(["uv", "cache", "dir"], text=True).strip(),
            "PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip"),
            "REDIS_URL": f"redis://127.0.0.1:{self.redis}/0",
            **dict.fromkeys(["PORT", "UVICORN_PORT"], str(self.api)),
            **dict.fromkeys(["FLOWER_PORT", "RQ_DASHBOARD_PORT"], str(self.monitor)),
            **{
                f"GIT_{role}_{field}": "ada@example.com"
                for role in ("AUTHOR", "COMMITTER")
                for field in ("NAME", "EMAIL")
            },
        }

    def close(self) -> None:
        """Kill the servers that still run."""
        for server in self.servers.values():
            server.kill()

    def run(self, command: str, typed: str = "", **environment: str) -> str:
        """Run a command to its end and return its output; fails if the command does."""
        result = subprocess.run(
            ["bash", "-c", self._with_own_ports(command)],
            cwd=self.folder,
            env=self.environment | environment,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}"
        return result.stdout

    def start(self, command: str) -> None:
        """Start a server in the place of one of the same kind, and wait until it listens, if it does so."""
        kind = SERVERS.findall(command)[0] or "redis-server"
        if kind == "redis-server":
            command = command.replace(kind, redis_binary(), 1)
        if kind in self.servers:
            self.servers[kind].kill()
        errors = self.scratch / f"{kind}.txt"
        words = ["bash", "-c", self._with_own_ports(command)]
        server = self.servers[kind] = Process(words, self.folder, self.environment, errors)
        port = {"redis-server": self.redis, "fastapi dev": self.api, "poe monitor": self.monitor}.get(kind)
        if port:
            wait_for(lambda: not server.runs() or listens(port), command, seconds=120)
        assert server.runs(), server.said()

    def _with_own_ports(self, command: str) -> str:
        command = command.replace("127.0.0.1:8000", f"127.0.0.1:{self.api}")
        return command.replace("--port 6379", f"--port {self.redis}")
