"""Measures the speed of generated services: `uv run --group bench python benchmarks/run.py`.

Each round measures everything in turn. Ratios within one round hold on any machine, unlike absolute figures, so the
report shows the median of the rounds' ratios.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from load import HERE, Load, Server, empty, reader, seconds_of, seconds_to_first_answer, serve, tool
from plot import plot
from report import tables, write_to_page
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from conftest import ENVIRONMENT, TEMPLATE  # isort: skip
from serving import Process, Redis, wait_for  # isort: skip

SINKS = ("file", "stdout")
ENGINES = ("celery", "rq")
CONNECTIONS = (1, 8, 32, 128)
PROCESSES = (1, 2)
TASKS = {"celery": 3000, "rq": 150}
PEER_PACKAGES = ("celery[redis]", "fastapi", "rq", "uvicorn[standard]")
LOG = "/log/?message=hello"
COOKIECUTTER = (tool(Path(sys.prefix), "cookiecutter"), "--no-input", "--default-config")


@dataclass
class Bench:
    """The generated projects and their peers, and the figures measured so far."""

    folder: Path
    redis: Redis
    seconds: float
    requests: int
    ratios: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, list[Any]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Generate and install everything."""
        environment = ENVIRONMENT | {"UV_PYTHON": sys.executable}
        for sink, engine in [*((sink, "background") for sink in SINKS), *(("file", engine) for engine in ENGINES)]:
            project = self.folder / f"{sink}-{engine}" / "myservice"
            seconds_of(*COOKIECUTTER, str(TEMPLATE), f"sink={sink}", f"engine={engine}", folder=project.parent)
            subprocess.run(["uv", "sync", "--quiet", "--no-dev"], cwd=project, env=environment, check=True)
        subprocess.run(["uv", "venv", "--quiet", str(self.peers)], env=environment, check=True)
        install = ["uv", "pip", "install", "--quiet", "--python", tool(self.peers, "python"), *PEER_PACKAGES]
        subprocess.run(install, env=environment, check=True)

    @property
    def peers(self) -> Path:
        """The virtual environment of the peers."""
        return self.folder / "peers"

    def environment(self, sink: str, engine: str) -> Path:
        """The virtual environment of a generated project."""
        return self.folder / f"{sink}-{engine}" / "myservice" / ".venv"

    def add(self, ratio: str, value: float) -> None:
        self.ratios.setdefault(ratio, []).append(value)

    def load(self, name: str, server: Server, path: str) -> Load:
        """Put a load on a server, and keep the figures under a name."""
        load = server.load(path, seconds=self.seconds)
        self.figures.setdefault(name, []).append(asdict(load))
        return load

    def in_process(self, sink: str) -> None:
        """Compare the service with a bare FastAPI endpoint that does nothing, and with the textbook."""
        output = empty(self.folder / "output") / "stdout"
        ours, textbook = self.environment(sink, "background"), "textbook" if sink == "file" else "textbook_stdout"
        with serve(ours, "noop:app", output.parent, probe=LOG) as peer:
            peer.load(LOG, seconds=1)
            noop = self.load(f"{sink}: bare no-op", peer, LOG)
        service = "myservice.main:app"
        with reader(output) as pipe, serve(ours, service, output.parent, probe=LOG, output=pipe) as server:
            server.load(LOG, seconds=1)
            log = self.load(f"{sink}: /log/", server, LOG)
            complex_task = self.load(f"{sink}: /complex-task/", server, "/complex-task/")
        output = empty(output.parent) / "stdout"
        with (
            reader(output) as pipe,
            serve(self.peers, f"{textbook}:app", output.parent, probe=LOG, output=pipe) as peer,
        ):
            peer.load(LOG, seconds=1)
            peer_log = self.load(f"{sink}: textbook /log/", peer, LOG)
            peer_complex_task = self.load(f"{sink}: textbook /complex-task/", peer, "/complex-task/")
        if sink == "file":
            with serve(self.peers, "textbook_async:app", output.parent, probe=LOG) as peer:
                peer.load(LOG, seconds=1)
                peer_async = self.load("file: textbook /log/, `async def`", peer, LOG)
            self.add("file: /log/ rate / async", log.rate / peer_async.rate)
        self.add(f"{sink}: /log/ rate / no-op", log.rate / noop.rate)
        self.add(f"{sink}: /log/ rate / textbook", log.rate / peer_log.rate)
        self.add(f"{sink}: /log/ done / textbook", log.done / peer_log.done)
        self.add(f"{sink}: /log/ p99 / textbook", log.p99 / peer_log.p99)
        self.add(f"{sink}: /log/ CPU / no-op", log.cpu / noop.cpu)
        self.add(f"{sink}: /complex-task/ rate / textbook", complex_task.rate / peer_complex_task.rate)

    def hand_over(self, engine: str) -> None:
        """Compare a request that hands a task to Redis with a tutorial's."""
        variables = {"REDIS_URL": self.redis.url}
        folder = empty(self.folder / "output")
        loads = []
        for environment, application, name in [
            (self.environment("file", engine), "myservice.main:app", f"{engine}: /log/"),
            (self.peers, f"tutorial_{engine}:app", f"{engine}: tutorial's /log/"),
        ]:
            with serve(environment, application, folder, probe=LOG, **variables) as server:
                server.load(LOG, seconds=1)
                loads.append(self.load(name, server, LOG))
            self.redis.command("FLUSHALL")
        self.add(f"{engine}: /log/ rate / tutorial", loads[0].rate / loads[1].rate)

    def work(self, engine: str) -> None:
        """Compare a worker with one of the bare engine that runs an empty task."""
        ours = {
            "celery": "from myservice.tasks import write_log; add = write_log.delay",
            "rq": "from functools import partial; from myservice import broker, tasks; "
            "add = partial(broker.enqueue, tasks.write_log)",
        }
        bare = {
            "celery": "from bare_celery import empty; add = empty.delay",
            "rq": "from functools import partial; import bare_rq; add = partial(bare_rq.queue.enqueue, bare_rq.empty)",
        }
        rates = []
        for name, environment, enqueue, argument in [
            ("worker", self.environment("file", engine), ours[engine], "'hello'"),
            ("bare worker", self.peers, bare[engine], ""),
        ]:
            folder = empty(self.folder / "output")
            variables = ENVIRONMENT | {"REDIS_URL": self.redis.url, "PYTHONPATH": str(HERE / "peers")}
            script = f"{enqueue}\nfor _ in range({TASKS[engine]}): add({argument})"
            subprocess.run([tool(environment, "python"), "-c", script], cwd=folder, env=variables, check=True)
            command = {
                ("worker", "celery"): ("celery", "-A", "myservice.worker", "worker"),
                ("bare worker", "celery"): ("celery", "-A", "bare_celery", "worker"),
                ("worker", "rq"): ("python", "-m", "myservice.worker"),
                ("bare worker", "rq"): ("rq", "worker", "--url", self.redis.url, "myservice"),
            }[name, engine]
            worker = Process([tool(environment, command[0]), *command[1:]], folder, variables, folder / "worker.txt")
            try:
                rates.append(TASKS[engine] / self._seconds_to_empty(engine, name))
            finally:
                worker.kill()
                self.redis.command("FLUSHALL")
            self.figures.setdefault(f"{engine}: {name}, tasks/s", []).append(rates[-1])
        self.add(f"{engine}: worker rate / bare engine", rates[0] / rates[1])

    def _seconds_to_empty(self, engine: str, name: str) -> float:
        """The time that a worker takes from its first task to its last."""
        prefix = "myservice:" if name == "worker" else ""
        waiting = {"celery": f"LLEN {prefix}celery", "rq": "LLEN rq:queue:myservice"}[engine].split()
        begun = {"celery": f"ZCARD {prefix}unacked_index", "rq": "ZCARD rq:wip:myservice"}[engine].split()
        wait_for(lambda: self.redis.command(*waiting) != f":{TASKS[engine]}", "the first task")
        start = time.perf_counter()
        wait_for(
            lambda: self.redis.command(*waiting) == self.redis.command(*begun) == ":0", "the last task", seconds=300
        )
        return time.perf_counter() - start

    def start(self) -> None:
        """Compare the start of services with that of the smallest application."""
        folder = empty(self.folder / "output")
        seconds = {}
        for name, environment, application in [
            ("one route", self.peers, "one_route:app"),
            *((engine, self.environment("file", engine), "myservice.main:app") for engine in ("background", *ENGINES)),
        ]:
            seconds[name] = statistics.median(
                seconds_to_first_answer(environment, application, folder, REDIS_URL=self.redis.url) for _ in range(3)
            )
            self.figures.setdefault(f"start: {name}", []).append(seconds[name])
        for engine in ("background", *ENGINES):
            self.add(f"{engine}: start / one route", seconds[engine] / seconds["one route"])

    def scaffold(self) -> None:
        """Compare rendering this template with rendering a template of one file."""
        seconds = {}
        for name, template in {"this template": TEMPLATE, "one file": HERE / "peers" / "one_file"}.items():
            seconds[name] = statistics.median(
                seconds_of(*COOKIECUTTER, str(template), folder=empty(self.folder / "output")) for _ in range(5)
            )
            self.figures.setdefault(f"scaffold: {name}", []).append(seconds[name])
        self.add("scaffolding / one file", seconds["this template"] / seconds["one file"])

    def growth(self) -> dict[str, list[dict[str, Any]]]:
        """Measure with more connections and processes."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for name, environment, application in [
            ("this template", self.environment("file", "background"), "myservice.main:app"),
            ("the textbook", self.peers, "textbook:app"),
        ]:
            for processes in PROCESSES:
                folder = empty(self.folder / "output")
                label = f"{name}, {processes} process" if processes == 1 else f"{name}, {processes} processes"
                with serve(environment, application, folder, probe=LOG, processes=processes) as server:
                    server.load(LOG, seconds=1)
                    for connections in CONNECTIONS:
                        load = server.load(LOG, seconds=self.seconds, connections=connections)
                        rows.setdefault(label, []).append({"connections": connections, **asdict(load)})
        return rows

    def endurance(self, sink: str, processes: int) -> dict[str, Any]:
        """Count the lines and the growth of memory after many requests."""
        output = empty(self.folder / "output") / "stdout"
        parts = [(1, self.requests // 5), (10 * self.requests, self.requests - self.requests // 5)]
        answered: list[int] = []
        memory: list[int] = []
        with (
            reader(output) as pipe,
            serve(
                self.environment(sink, "background"),
                "myservice.main:app",
                output.parent,
                probe="/health/live",
                method="GET",
                processes=processes,
                output=pipe,
            ) as server,
        ):
            for first, limit in parts:
                answered.append(server.count("/log/", first=first, limit=limit))
                memory.append(server.memory())
        if sink == "file":
            lines = (output.parent / "records" / "log.txt").read_text(encoding="utf-8").splitlines()
        else:
            records = output.read_text(encoding="utf-8").splitlines()
            lines = [json.loads(record)["line"] if record.endswith("}") else record for record in records]
        whole = {int(line) for line in lines if line.isascii() and line.isdigit()}
        lost = 0
        for (first, limit), least in zip(parts, answered, strict=True):
            part = {number for number in whole if first <= number < first + 2 * limit}
            # wrk makes its first request for itself alone; and the last 32 may not have arrived when it stops.
            lost += max(least - len(part), len(set(range(first + 1, max(part, default=first) - 32)) - part))
        return {
            "answered": sum(answered),
            "lines": len(lines),
            "lost": lost,
            "torn or merged": len(lines) - len(whole),
            "growth of memory in MB": (memory[1] - memory[0]) / 1e6,
        }

    def product(self) -> float:
        """The time that the template's tests take to render and check the full product."""
        command = [tool(Path(sys.prefix), "pytest"), "-q", "-m", "exhaustive", "-k", "every_combination"]
        return seconds_of(*command, folder=TEMPLATE)


def machine() -> dict[str, Any]:
    """The machine that the figures were measured on."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def measure(bench: Bench, rounds: int, only: str) -> dict[str, Any]:
    """Run the steps that match `only`, and return the medians and the figures behind them."""
    result: dict[str, Any] = {"machine": machine(), "ratios": {}}

    def keep(key: str, value: Any) -> None:
        result[key] = value

    in_rounds: dict[str, Callable[[], None]] = {
        **{f"requests, {sink}": partial(bench.in_process, sink) for sink in SINKS},
        **{f"requests, {engine}": partial(bench.hand_over, engine) for engine in ENGINES},
        **{f"worker, {engine}": partial(bench.work, engine) for engine in ENGINES},
        "start": bench.start,
        "scaffold": bench.scaffold,
    }
    once: dict[str, Callable[[], None]] = {
        "growth": lambda: keep("growth", bench.growth()),
        **{
            f"endurance, {sink}, {processes}": lambda sink=sink, processes=processes: keep(
                f"endurance: {sink}, {processes}", bench.endurance(sink, processes)
            )
            for sink in SINKS
            for processes in PROCESSES
        },
        "full product": lambda: keep("full product in s", bench.product()),
    }
    steps = [("install", bench.prepare), *(list(in_rounds.items()) * rounds), *once.items()]
    steps = [(name, step) for name, step in steps if name == "install" or re.search(only, name)]
    columns = (TextColumn("{task.description:25}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(steps))
        for name, step in steps:
            progress.update(bar, description=name)
            step()
            progress.advance(bar)
    result["ratios"] = {name: statistics.median(values) for name, values in bench.ratios.items()}
    return result | {"rounds": bench.ratios, "figures": bench.figures}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measures the speed of generated services.")
    parser.add_argument("--rounds", type=int, default=3, help="the number of rounds (3)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of each load (4)")
    parser.add_argument(
        "--requests", type=int, default=500_000, help="requests after which lines are counted (500,000)"
    )
    steps = "requests, worker, start, scaffold, growth, endurance, full product"
    parser.add_argument(
        "--only",
        default="",
        metavar="REGEX",
        help=f"run only the steps that match ({steps}), and replace no figures",
    )
    return parser.parse_args()


def main() -> int:
    """Measure everything, print the tables, and write result.json, the plot and docs/performance.md."""
    options = arguments()
    if not shutil.which("wrk"):
        sys.stderr.write("wrk is not on the PATH: install it from your system's packages (Debian: apt install wrk)\n")
        return 1
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        # As in the `compose.yaml` of projects.
        redis = Redis(empty(folder / "redis"), fsync="everysec")
        stack.callback(redis.process.kill)
        result = measure(Bench(folder, redis, options.seconds, options.requests), options.rounds, options.only)
    sys.stdout.write(tables(result) + "\n")
    if not options.only:
        (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        plot(result, HERE / "plot.svg")
        write_to_page(result, TEMPLATE / "docs" / "performance.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
