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
    """The tests ignore a developer's `.env`, even if one of its values would keep the service from starting."""
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
    home = {"HOME": str(tmp_path), "PRE_COMMIT_HOME": str(tmp_path / "pre-commit")}

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *arguments]
        environment = ENVIRONMENT | project.variables | home
        return subprocess.run(
            command,
            cwd=project.path,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        ).stdout

    git("init", "--quiet")
    project.run("pre-commit", "install", **home)
    git("add", "--all")
    assert git("commit", "--message=Begin").count("Passed") == 5
    assert git("status", "--porcelain") == ""


@pytest.mark.parametrize("sink", PROMPTS["sink"])
def test_fix_corrects_style_and_format(install: Install, tmp_path: Path, sink: str) -> None:
    project = install(sink, "background").copy(tmp_path / "project")
    file = project.path / "src" / "myservice" / "more.py"
    file.write_text("import sys\nimport os\nprint( os.sep,sys.path )\n")
    project.run("poe", "fix")

    assert file.read_text() == "import os\nimport sys\n\nprint(os.sep, sys.path)\n"


@each_engine
def test_commands_are_listed(install: Install, engine: str) -> None:
    listed = install("file", engine).run("poe", "--help").partition("Configured tasks:")[2]

    of_engine = [] if engine == "background" else ["worker", "schedule", "failed", "monitor"]
    assert re.findall(r"^  (\w+)  +[A-Z]", listed, re.MULTILINE) == ["dev", *of_engine, "test", "fix", "lint"]
