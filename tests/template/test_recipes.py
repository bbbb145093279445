"""The recipes of docs/recipes.md, applied to generated projects."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import PROMPTS, TEMPLATE, Install, generate
from test_own_code import add_lines_to_main, add_to_worker, edit, write_modules

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one of the recipes is for a POSIX system")

# A test of each recipe, which the project's own tests run with.
TESTS = {
    "A setting": """
from myservice.settings import load_settings

def test_setting(monkeypatch):
    assert load_settings().stock_file == "stock.json"
    monkeypatch.setenv("STOCK_FILE", "other.json")
    assert load_settings().stock_file == "other.json"
""",
    "An endpoint with a parameter": """
def test_parameter(client):
    assert client.get("/stock/bolt").json() == 12
    assert client.get("/stock/two%0Alines").status_code == 422
""",
    "An object that lives as long as the service": """
from fastapi.testclient import TestClient
from myservice.main import app

def test_lifespan(monkeypatch):
    with TestClient(app) as client:
        assert client.get("/scratch").json() == 0
        folder = client.app_state["scratch"]
        (folder / "file").touch()
        assert client.get("/scratch").json() == 1
    assert not folder.exists()
""",
    "A nightly job with `celery`": """
from celery.beat import Scheduler
from myservice import broker, worker

def test_schedule(records):
    entry = broker.app.conf.beat_schedule["nightly sum"]
    worker.app.tasks[entry["task"]].apply(entry["args"], throw=True)
    assert records("log") == ["The sum is 3"]
    assert entry["schedule"].hour == {3}
    assert str(broker.app.timezone) == "Europe/Berlin"
    assert not Scheduler(broker.app).schedule["nightly sum"].is_due().is_due
""",
    "A nightly job with `rq`": """
from datetime import datetime, timezone
from redis import Redis
from rq.cron import CronScheduler
from myservice import broker, scheduler

def test_schedule(records, monkeypatch, work):
    monkeypatch.setattr(Redis, "from_url", lambda _url: broker.queue.connection)

    def enqueue_nightly(self):
        nightly = self.get_jobs()[0]
        assert not nightly.should_run()
        assert nightly.next_enqueue_time.astimezone().strftime("%H:%M") == "03:30"
        nightly.enqueue(self.connection)

    monkeypatch.setattr(CronScheduler, "start", enqueue_nightly)
    scheduler.main()
    work()
    assert records("log") == ["The sum is 3"]
""",
    "A readiness check": """
from myservice import space

def test_readiness(client, monkeypatch):
    assert client.get("/health/ready").status_code == 200
    monkeypatch.setattr(space, "MINIMUM", 2**63)
    response = client.get("/health/ready")
    assert response.status_code == 503
    assert response.json() == {"detail": "Too little space is free"}
""",
    "A task with its own retries with `background`": """
import pytest
from myservice import runner, sink, sums

@pytest.mark.parametrize(("error", "attempts"), [(ConnectionError, 4), (PermissionError, 1)])
def test_retries(client, monkeypatch, error, attempts):
    waits = []

    async def fail(channel, line):
        raise error

    async def no_wait(seconds):
        waits.append(seconds)
        return False

    monkeypatch.setattr(sink, "write", fail)
    monkeypatch.setattr("myservice.shutdown.requested_within", no_wait)
    client.post("/sums/", json=[1, 2])
    assert waits == [1, 10, 60][: attempts - 1]
""",
    "A task with its own retries with `celery`": """
import pytest
from myservice import broker, sink, sums

@pytest.mark.parametrize(("error", "attempts"), [(OSError, 5), (KeyError, 1)])
def test_retries(monkeypatch, error, attempts):
    tried = []

    def fail(channel, line):
        tried.append(channel)
        raise error

    monkeypatch.setattr(sink, "write", fail)
    monkeypatch.setitem(broker.app.conf, "task_eager_propagates", False)
    monkeypatch.setattr(broker.app, "send_task", lambda *_, **__: None)
    sums.add_up.apply(([1, 2],))
    assert len(tried) == attempts
""",
    "A task with its own retries with `rq`": """
from myservice import broker

def test_retries(client, records):
    client.post("/sums/", json=[1, 2])
    assert records("log") == ["The sum is 3"]
""",
}


def recipes() -> dict[str, str]:
    """Return the recipes by their headings. If a recipe is for one engine, its heading ends with the engine."""
    found = {}
    for section in (TEMPLATE / "docs" / "recipes.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        first, *engines = re.split(r"\n### W(?=ith)", text)
        if not engines:
            found[heading] = first
        for engine in engines:
            name, _, steps = engine.partition("\n")
            found[f"{heading} w{name}"] = steps
    return found


RECIPES = recipes()


def apply(project: Path, steps: str) -> None:
    """Write each block of Python to the file that the text before it names, and make the changes of each diff."""
    file = project
    for text, language, block in re.findall(r"(.*?)^```(\w+)\n(.*?)^```$", steps, re.MULTILINE | re.DOTALL):
        if names := re.findall(r"[Ii]n (?:a new module )?`([\w/.]+)`:", re.sub(r"\s+", " ", text)):
            file = project / names[-1]
        if language == "python":
            file.write_text(block, encoding="utf-8")
            if "APIRouter(" in block:
                add_lines_to_main(project, file.stem)
        else:
            lines = block.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            edit(file, old, "".join(line[1:] for line in lines if line[0] in " +"))


def test_each_recipe_has_its_test() -> None:
    assert list(RECIPES) == list(TESTS)


@pytest.mark.xdist_group("mypy")
@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_recipes_work(install: Install, tmp_path: Path, engine: str) -> None:
    project = generate(tmp_path, engine=engine)
    write_modules(project)
    add_lines_to_main(project)
    add_to_worker(project)
    tests = ["tests/test_settings.py", "tests/test_main.py"]
    for number, (heading, steps) in enumerate(RECIPES.items()):
        named = re.findall(r"with `(\w+)`$", heading)
        if named in ([], [engine]):
            apply(project, steps)
            tests.append(f"tests/test_recipe_{number}.py")
            (project / tests[-1]).write_text(TESTS[heading], encoding="utf-8")

    installed = replace(install("file", engine), path=project)
    installed.run("ruff", "check", "--select", "I", "--fix", "src")
    for command in ("ruff check src", "ruff format --check src", "mypy src"):
        installed.run(*command.split())
    installed.run("pytest", "--no-cov", *tests)
