"""The tests, checks and commands of a generated project."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, PROMPTS, Install, Installed

each_engine = pytest.mark.parametrize("engine", PROMPTS["engine"])
# mypy's cache is shared: one process at a time may write it.
runs_mypy = pytest.mark.xdist_group("mypy")


def test_tests_pass(installed: Installed, tmp_path: Path) -> None:
    """They do, also where a developer's `.env` has values of its own, of which one would stop any start."""
    project = installed.copy(tmp_path / "project")
    (project.path / ".env").write_text("RECORDS_DIR=leaked\nREDIS_URL=redis://127.0.0.1:1\nOPERATOR_EMAIL=nobody\n")

    project.run("pytest")
    assert not (project.path / "leaked").exists()


@runs_mypy
@each_engine
@pytest.mark.parametrize("sink", PROMPTS["sink"])
def test_checks_pass(install: Install, tmp_path: Path, engine: str, sink: str) -> None:
    install(sink, engine).copy(tmp_path / "project").run("poe", "lint")


WRONG_ARGUMENTS = {
    "background": """
from fastapi import BackgroundTasks
from myservice.tasks import Config, log_service_event, write_log

def schedule(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(log_service_event, Config(service_name="x"), "y")
    background_tasks.add_task(write_log, 1)  # wrong
    background_tasks.add_task(write_log, "x", nonsense=3)  # wrong
    background_tasks.add_task(write_log, "x", channel="nowhere")  # wrong
""",
    "celery": """
from myservice.tasks import Config, log_service_event, write_log

log_service_event.delay(Config(service_name="x"), "y")
write_log.delay(1)  # wrong
write_log.delay("x", nonsense=3)  # wrong
write_log.si(1)  # wrong
write_log.si("x", nonsense=3)  # wrong
""",
    "rq": """
from functools import partial
from myservice.broker import enqueue, enqueue_in_order
from myservice.tasks import Config, log_service_event, write_log

enqueue(log_service_event, Config(service_name="x"), "y")
enqueue(write_log, 1)  # wrong
enqueue(write_log, "x", nonsense=3)  # wrong
enqueue_in_order(partial(write_log, 1), partial(write_log, "x"))  # wrong
enqueue_in_order(partial(write_log, "x"), partial(write_log, "x", nonsense=3))  # wrong
""",
}


@runs_mypy
@each_engine
def test_wrong_arguments_of_a_task_are_type_errors(install: Install, tmp_path: Path, engine: str) -> None:
    project = install("file", engine).copy(tmp_path / "project")
    code = WRONG_ARGUMENTS[engine]
    (project.path / "src" / "myservice" / "wrong.py").write_text(code)
    with pytest.raises(AssertionError) as failure:
        project.run("mypy")

    found = {int(line) for line in re.findall(r"wrong\.py:(\d+): error:", str(failure.value))}
    assert found == {number for number, line in enumerate(code.splitlines(), start=1) if "# wrong" in line}


@runs_mypy
@each_engine
def test_first_commit_passes_its_hooks(install: Install, tmp_path: Path, engine: str) -> None:
    project = install("file", engine).copy(tmp_path / "project")
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=project.path, env=ENVIRONMENT, check=True)
    said = project.run("pre-commit", "run", "--all-files", PRE_COMMIT_HOME=str(tmp_path / "pre-commit"))

    assert said.count("Passed") == 5
    subprocess.run(["git", "diff", "--exit-code"], cwd=project.path, env=ENVIRONMENT, check=True)


@each_engine
def test_commands_are_listed(install: Install, engine: str) -> None:
    listed = install("file", engine).run("poe", "--help").partition("Configured tasks:")[2]

    of_engine = [] if engine == "background" else ["worker", "schedule", "failed", "monitor"]
    assert re.findall(r"^  (\w+)  +[A-Z]", listed, re.MULTILINE) == ["dev", *of_engine, "test", "fix", "lint"]
