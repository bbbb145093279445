"""README.md and docs: each command works, each fault has its row, each named test exists, each figure was measured."""

import html
import json
import re
import runpy
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, PROMPTS, TEMPLATE, Install
from serving import wait_for
from shell import SERVERS, Shell, commands

README = TEMPLATE / "README.md"
PAGES = [README, *sorted((TEMPLATE / "docs").glob("*.md"))]
# Pages that take long: they start servers and workers, or install what measures them.
SLOW = ("engines", "performance")

for_posix = pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the template, as it is here."""
    clone = tmp_path / "clone"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=TEMPLATE, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TEMPLATE / name, clone / name)
    return clone


@for_posix
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=page.stem,
            # README.md has a project checked by mypy, whose cache is shared: one process at a time may write it.
            marks=[pytest.mark.faults] if page.stem in SLOW else [pytest.mark.xdist_group("mypy")],
        )
        for page in PAGES
        if commands(page.read_text(encoding="utf-8"))
    ],
)
def test_commands_work(clone: Path, tmp_path: Path, page: Path, install: Install) -> None:
    text = page.read_text(encoding="utf-8")
    said: list[str] = []
    with closing(Shell(clone, tmp_path)) as shell:
        shell.environment["MYPY_CACHE_DIR"] = install("stdout", "background").variables["MYPY_CACHE_DIR"]
        shell.run("git init --quiet && git add --all && git commit --quiet --message Clone")
        for command in commands(text):
            if SERVERS.search(command):
                shell.start(command)
            elif command.startswith("cat "):
                wait_for(lambda command=command: shell.run(command) == "hello\n", command)
                said.append("hello")
            elif command.startswith("curl "):
                said.append(shell.run(f"{command} --silent --show-error"))
            elif command == "uvx cookiecutter .":
                # This command must show its prompts.
                assert "Name of the service" in shell.run(command, "Asked Desk" + "\n" * len(PROMPTS))
            elif "benchmarks" in command:
                shell.run(f"{command} --help")
            elif command.endswith("desk pytest"):
                # tests/service/test_project.py runs all tests of a project.
                shell.run(command, PYTEST_ADDOPTS="--no-cov -k health")
            elif re.search(r"uv run pytest( -m \w+)?$", command):
                # Running all tests would run this one again. Run a few, in this environment: nothing is installed.
                shared = {"UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_NO_SYNC": "1", "PYTEST_ADDOPTS": "-n0"}
                selection = "--collect-only" if "pytest -m" in command else "tests/template/test_prompts.py"
                assert re.search(
                    r"[1-9]\d* passed|[1-9]\d*/\d+ tests collected", shell.run(f"{command} {selection}", **shared)
                )
            elif not command.startswith("docker "):
                # There may be no container engine here.
                shell.run(command)

    # The answers that the page shows.
    for block in re.findall(r"^```text\n(\{.*?)^```$", text, re.MULTILINE | re.DOTALL):
        assert said == block.splitlines()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = {line for line in commands(README.read_text(encoding="utf-8")) if line.endswith("uv run pytest")}

    assert command in (TEMPLATE / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def collected_tests(*arguments: str) -> set[str]:
    """Return the names of the tests that pytest finds."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", *arguments]
    collected = subprocess.run(
        command, cwd=TEMPLATE, env=ENVIRONMENT | {"PYTEST_ADDOPTS": ""}, capture_output=True, text=True, check=True
    ).stdout
    return set(re.findall(r"::(test_\w+)", collected))


def test_every_fault_has_its_row() -> None:
    page = (TEMPLATE / "docs" / "guarantees.md").read_text(encoding="utf-8")
    table = page.partition("\n## What happens when")[2].partition("\n## ")[0]

    assert collected_tests("tests/faults", "-m", "faults") - set(re.findall(r"`(test_\w+)`", table)) == set()


def test_every_test_that_is_named_exists() -> None:
    """A named test is defined in the template; a named file is among the project's tests."""
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    defined = {
        name
        for file in (TEMPLATE / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)\(", file.read_text("utf-8"))
    }

    assert named - defined == set()
    files = {name for page in PAGES for name in re.findall(r"`(test_\w+)\.py`", page.read_text(encoding="utf-8"))}
    (service,) = TEMPLATE.glob("*cookiecutter.project_slug*")
    assert files <= {path.name.partition(".")[0] for path in (service / "tests").iterdir()}


def test_every_link_leads_somewhere() -> None:
    for page in [*PAGES, TEMPLATE / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)|^\[\w+\]: (\S+)$", text, re.MULTILINE)
        targets = [inline or reference for inline, reference in links]
        assert [target for target in targets if not (page.parent / target).exists()] == [], page.name


report = runpy.run_path(str(TEMPLATE / "benchmarks" / "report.py"))


def test_figures_are_those_that_were_measured() -> None:
    result = json.loads((TEMPLATE / "benchmarks" / "result.json").read_text(encoding="utf-8"))
    page = (TEMPLATE / "docs" / "performance.md").read_text(encoding="utf-8")

    assert f"{report['BEGIN']}\n{report['tables'](result)}\n{report['END']}" in page
    assert (TEMPLATE / "benchmarks" / "plot.svg").is_file()


@pytest.mark.parametrize(
    ("figure", "wanted", "missed"),
    [(0.64, "≥ 0.65", True), (0.65, "≥ 0.65", False), (1.31, "≤ 1.3", True), (5, "< 5", False), (0, "", False)],
)
def test_misses_are_marked(figure: float, wanted: str, missed: bool) -> None:
    assert report["missed"](figure, wanted) == missed


def test_pictures_show_what_is_asked_and_said() -> None:
    """The pictures are made from real output. This test fails if the output has changed since."""

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
