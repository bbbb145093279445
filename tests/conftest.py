"""Generates projects from the template, and runs commands in them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from cookiecutter.main import cookiecutter
from jinja2 import Environment

TEMPLATE = Path(__file__).parents[1]
PROMPTS: dict[str, Any] = {
    prompt: default
    for prompt, default in json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8")).items()
    if not prompt.startswith("_")
}
# The commands that check a generated project, as its README.md says.
TOOLS = ("pytest", "poe lint")
# The environment of a user's shell: without the virtual environment of these tests, and without settings for Python.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV" and not name.startswith("PYTHON")
}

Bake = Callable[..., Path]


def run_cookiecutter(
    folder: Path, template: Path = TEMPLATE, defaults: dict[str, Any] | None = None, **options: Any
) -> Path:
    """Generate a project in `folder`/projects, touching nothing outside `folder`, and return the project's path.

    `defaults` are answers in the config file; `options` are those of `cookiecutter.main.cookiecutter`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "cookiecutters_dir": str(folder / "templates"),
                "replay_dir": str(folder / "replay"),
                "default_context": defaults or {},
            }
        ),
        encoding="utf-8",
    )
    return Path(cookiecutter(str(template), output_dir=str(folder / "projects"), config_file=str(config), **options))


def generate(folder: Path, template: Path = TEMPLATE, **answers: Any) -> Path:
    """Generate a project with the given answers, and defaults for the others.

    Raises KeyError for a prompt that does not exist: Cookiecutter itself would ignore the answer.
    """
    for prompt in answers:
        PROMPTS[prompt]
    return run_cookiecutter(folder, template, no_input=True, extra_context=answers)


def load(path: str) -> ModuleType:
    """Import a Python file of the template as it is, before Cookiecutter renders it."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, TEMPLATE / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_template(folder: Path) -> Path:
    """Copy the template to `folder`, for a test that changes it, and return the folder."""
    return Path(
        shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis"))
    )


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Cookiecutter and uv leave temporary files behind: put them where pytest deletes them."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        patch.setitem(ENVIRONMENT, "TMPDIR", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def _templates_compiled_once() -> Iterator[None]:
    """Compile each template once, because thousands of projects use the same files and compiling takes half the time.

    The key includes whether there is a loader: without one, the template's extension makes a literal of an answer.
    """
    compile_template = Environment.compile
    compiled: dict[tuple[bool | str | None, ...], CodeType] = {}

    def compile_once(environment: Environment, *source: str | None) -> CodeType:
        key = (environment.loader is None, *source)
        if key not in compiled:
            compiled[key] = compile_template(environment, *source)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "compile", compile_once)
        yield


@pytest.fixture
def bake(tmp_path: Path) -> Bake:
    """Generates a project with the given answers in a folder of the test's own."""
    return lambda **answers: generate(tmp_path, **answers)


@dataclass(frozen=True)
class Installed:
    """A generated project in an environment built from its own `pyproject.toml`."""

    path: Path
    sink: str
    engine: str

    def tool(self, name: str) -> str:
        """The path of a program in the project's environment."""
        return str(self.path / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / name)

    def run(self, *command: str, **environment: str) -> str:
        """Run a tool in the project's environment and return what it printed; fails if the tool does."""
        result = subprocess.run(
            ["uv", "run", *command],
            cwd=self.path,
            env=ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
        return result.stdout


def variants(
    sinks: Iterable[str] = PROMPTS["sink"], engines: Iterable[str] = PROMPTS["engine"], group: str = ""
) -> list[Any]:
    """Parameters for the fixture `installed`: each of `engines` with each of `sinks`.

    Tests of one variant and `group` run one after the other, in a process that has installed it for them.
    """
    return [
        pytest.param((sink, engine), id=f"{sink}-{engine}", marks=pytest.mark.xdist_group(f"{sink}-{engine}-{group}"))
        for sink in sinks
        for engine in engines
    ]


@pytest.fixture(scope="session", params=variants())
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Each engine with each sink, installed once for all tests."""
    sink, engine = request.param
    path = generate(tmp_path_factory.mktemp(f"{sink}-{engine}"), sink=sink, engine=engine)
    project = Installed(path, sink, engine)
    project.run("python", "--version")
    return project
