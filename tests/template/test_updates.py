"""A project follows its template with cruft, and keeps what its owner has written."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, copy_template, generate, variants


class Terminal:
    """Runs git and cruft with a home of their own."""

    def __init__(self, home: Path) -> None:
        """Make the home, and an owner for what is committed."""
        home.mkdir()
        self.environment = ENVIRONMENT | {"HOME": str(home), "USERPROFILE": str(home)}
        self.run(home, "git", "config", "--global", "user.name", "Ada")
        self.run(home, "git", "config", "--global", "user.email", "ada@example.com")

    def run(self, folder: Path, *command: str, status: int = 0) -> str:
        """Run a command, and return what it printed; fails unless it ends with `status`."""
        result = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, encoding="utf-8")
        assert result.returncode == status, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
        return result.stdout

    def cruft(self, folder: Path, *arguments: str, status: int = 0) -> str:
        return self.run(folder, sys.executable, "-m", "cruft", *arguments, status=status)

    def commit(self, folder: Path) -> None:
        """Commit everything."""
        self.run(folder, "git", "init", "--quiet")
        self.run(folder, "git", "add", "--all")
        self.run(folder, "git", "commit", "--quiet", "--message=Change")


def files(project: Path) -> dict[str, str]:
    """Return the files of a project, without those of git and cruft."""
    return {
        path.relative_to(project).as_posix(): path.read_text(encoding="utf-8")
        for path in project.rglob("*")
        if path.is_file() and ".git" not in path.parts and path.name != ".cruft.json"
    }


def change_template(template: Path) -> None:
    """Make a next version: a line in each sink and engine, a filter, a variant file, and one file less."""
    (service,) = template.glob("*cookiecutter.project_slug*")
    for module in ("sink", "routes"):
        for file in service.rglob(f"{module}.*.py"):
            file.write_text(file.read_text(encoding="utf-8") + "\n# From the next version.\n", encoding="utf-8")
    extension = template / "local_extensions.py"
    extension.write_text(
        extension.read_text(encoding="utf-8")
        .replace("def quoted(", "def shout(text: str) -> str:\n    return text.upper()\n\n\ndef quoted(")
        .replace("for function in (", "for function in (shout, "),
        encoding="utf-8",
    )
    readme = service / "README.md"
    readme.write_text(
        readme.read_text(encoding="utf-8") + "\n{{ cookiecutter.project_slug | shout }}\n", encoding="utf-8"
    )
    (service / "NOTES.container.md").write_text("Notes.\n", encoding="utf-8")
    (service / ".env.example").unlink()


@dataclass
class Owner:
    """A project that cruft generated, from a template in a repository of its own."""

    terminal: Terminal
    template: Path
    project: Path
    answers: dict[str, str]


@pytest.fixture
def owner(tmp_path: Path, request: pytest.FixtureRequest) -> Owner:
    """An owner whose answers look like a template."""
    sink, engine = request.param
    terminal = Terminal(tmp_path / "home")
    template = copy_template(tmp_path / "template")
    terminal.commit(template)
    answers = {"project_name": "Order {{ Desk }} 🚀", "project_slug": "order-desk", "sink": sink, "engine": engine}
    terminal.cruft(tmp_path, "create", str(template), "--no-input", "--extra-context", json.dumps(answers))
    project = tmp_path / "order-desk"
    terminal.commit(project)
    return Owner(terminal, template, project, answers)


# One is enough for the default run.
each_variant = pytest.mark.parametrize(
    "owner",
    [
        pytest.param(*variant.values, id=variant.id, marks=[] if variant.id == "stdout-celery" else pytest.mark.faults)
        for variant in variants()
    ],
    indirect=True,
)


@each_variant
def test_cruft_makes_what_cookiecutter_makes(owner: Owner, tmp_path: Path) -> None:
    assert files(owner.project) == files(generate(tmp_path / "fresh", **owner.answers))
    owner.terminal.cruft(owner.project, "check")


@each_variant
def test_update_brings_what_is_new_and_keeps_what_is_own(owner: Owner, tmp_path: Path) -> None:
    own = owner.project / "src" / "order_desk" / "models.py"
    own.write_text(own.read_text(encoding="utf-8") + "\n# My own.\n", encoding="utf-8")
    owner.terminal.commit(owner.project)
    change_template(owner.template)
    owner.terminal.commit(owner.template)

    owner.terminal.cruft(owner.project, "check", status=1)
    owner.terminal.cruft(owner.project, "update", "--skip-apply-ask")

    expected = files(generate(tmp_path / "fresh", owner.template, **owner.answers))
    expected["src/order_desk/models.py"] += "\n# My own.\n"
    assert files(owner.project) == expected
    assert "ORDER-DESK" in expected["README.md"]
    owner.terminal.commit(owner.project)
    owner.terminal.cruft(owner.project, "check")


@pytest.mark.parametrize("owner", [("file", "background")], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        {"engine": "rq", "sink": "stdout"},
        pytest.param({"engine": "celery", "ci": "none"}, marks=pytest.mark.faults),
    ],
    ids=lambda change: change["engine"],
)
def test_update_can_change_an_answer(owner: Owner, tmp_path: Path, change: dict[str, str]) -> None:
    owner.terminal.cruft(owner.project, "update", "--skip-apply-ask", "--variables-to-update", json.dumps(change))

    assert files(owner.project) == files(generate(tmp_path / "fresh", **owner.answers | change))
