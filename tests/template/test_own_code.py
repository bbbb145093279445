"""Own code, written as the generated README says, survives a change of the engine."""

import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, PROMPTS, TEMPLATE, Install, Installed, copy_template, generate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the README is written for a POSIX shell")

ENGINES = PROMPTS["engine"]
MODULE, TEST = "src/myservice/sums.py", "tests/test_sums.py"
MAIN, WORKER = "src/myservice/main.py", "src/myservice/worker.py"
# By default, only the change that deletes the most files runs.
CHANGES = [
    pytest.param(old, new, marks=[] if (old, new) == ("celery", "background") else pytest.mark.faults)
    for old, new in itertools.permutations(ENGINES, 2)
]


def run(folder: Path, *command: str) -> str:
    """Run a command with a home and an author of its own, and return its output; fails if the command does."""
    author = {
        f"GIT_{role}_{field}": "ada@example.com" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")
    }
    environment = ENVIRONMENT | author | {"HOME": str(folder.parent)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def cruft(folder: Path, *arguments: str) -> None:
    run(folder, sys.executable, "-m", "cruft", *arguments)


def commit(folder: Path) -> None:
    """Commit all files of a folder, after making it a repository if it is none."""
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message=Change")


def files(project: Path) -> dict[str, str]:
    """Return the texts of the project's files, except for cruft's and uv's own."""
    names = run(project, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {
        name: (project / name).read_text(encoding="utf-8") for name in names if name not in {".cruft.json", "uv.lock"}
    }


def edit(file: Path, old: str, new: str) -> None:
    """Replace the only occurrence of `old` in a file."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file}: {old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def recipe(project: Path) -> str:
    """Return the section of the README on own tasks."""
    readme = (project / "README.md").read_text(encoding="utf-8")
    return readme.partition("\n## Add a task of your own\n")[2].partition("\n## ")[0]


def write_modules(project: Path) -> None:
    """Write the two modules that the README shows: the task with its endpoint, and the test."""
    modules = re.findall(r"^```python\n(.*?)^```$", recipe(project), re.MULTILINE | re.DOTALL)
    for name, text in zip((MODULE, TEST), modules, strict=True):
        (project / name).write_text(text, encoding="utf-8")


def add_lines_to_main(project: Path, module: str = "sums") -> None:
    """Add the two lines that the README says, for a module of any name."""
    (lines,) = re.findall(
        r"In `main\.py`, add `(.+?)` as the last import and, below the other routers,\s+`(.+?)`\.", recipe(project)
    )
    import_line, route = (line.replace("sums", module) for line in lines)
    edit(project / MAIN, "import abort, settings\n", f"import abort, settings\n{import_line}\n")
    edit(project / MAIN, "(health.router)\n", f"(health.router)\n{route}\n")


def add_to_worker(project: Path) -> None:
    """With Celery, name the module in `worker.py` as the README says."""
    if "In `worker.py`, add `sums`" in re.sub(r"\s+", " ", recipe(project)):
        edit(project / WORKER, "sink, tasks,", "sink, sums, tasks,")
        edit(project / WORKER, '"tasks"]', '"sums", "tasks"]')


def check(project: Installed) -> None:
    """Run the test that the README shows. With Celery, it needs no worker, so check that a worker knows the task."""
    project.run("pytest", "--no-cov", TEST)
    if project.engine == "celery":
        project.run("python", "-c", "from myservice.worker import app; app.tasks['myservice.sums.add_up']")


def remove_from_worker(project: Path) -> None:
    if (project / WORKER).exists():
        text = (project / WORKER).read_text(encoding="utf-8")
        (project / WORKER).write_text(text.replace(" sums,", "").replace(' "sums",', ""), encoding="utf-8")


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_own_code_survives_another_engine(install: Install, tmp_path: Path, old: str, new: str) -> None:
    template = copy_template(tmp_path / "template")
    commit(template)
    cruft(tmp_path, "create", str(template), "--no-input", "--extra-context", json.dumps({"engine": old}))
    project = tmp_path / "myservice"
    commit(project)
    write_modules(project)
    add_lines_to_main(project)
    add_to_worker(project)
    check(replace(install("file", old), path=project))
    own = files(project)

    # The steps of docs/updating.md.
    remove_from_worker(project)
    commit(project)
    cruft(project, "update", "--skip-apply-ask", "--variables-to-update", json.dumps({"engine": new}))

    fresh = generate(tmp_path / "fresh", template, engine=new)
    commit(fresh)
    add_lines_to_main(fresh)
    assert files(project) == files(fresh) | {name: own[name] for name in (MODULE, TEST)}

    write_modules(project)
    add_to_worker(project)
    assert files(project)[TEST] == own[TEST]
    check(replace(install("file", new), path=project))


def test_table_lists_every_line_that_depends_on_the_engine(tmp_path: Path) -> None:
    modules = {}
    for engine in ENGINES:
        project = generate(tmp_path / engine, engine=engine)
        write_modules(project)
        modules[engine] = {line.strip() for line in (project / MODULE).read_text(encoding="utf-8").splitlines()}
    page = (TEMPLATE / "docs" / "updating.md").read_text(encoding="utf-8")
    table = page.partition("| line |")[2].partition("\n\n")[0]
    rows = [re.findall(r"(?<= \| )(?:`(.+?)`|none)(?= \|)", row) for row in table.splitlines()[2:]]

    for engine, cells in zip(ENGINES, zip(*rows, strict=True), strict=True):
        assert set(cells) - {""} == modules[engine] - set.intersection(*modules.values())
