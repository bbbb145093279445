"""Generates projects from the template, and runs commands in them."""

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from cookiecutter.main import cookiecutter
from filelock import FileLock
from jinja2 import Environment

TEMPLATE = Path(__file__).parents[1]
PROMPTS: dict[str, Any] = {
    prompt: default
    for prompt, default in json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8")).items()
    if not prompt.startswith("_")
}
# The environment of a user's shell: without the virtual environment of these tests, and without settings for Python.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV" and not name.startswith("PYTHON")
}

pytest_plugins = ["serving"]

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
    """A generated project. Its tools run in `shared`, the environment of several projects, or in one of its own."""

    path: Path
    sink: str
    engine: str
    shared: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that select the shared environment."""
        if not self.shared:
            return {}
        return {
            "UV_PROJECT_ENVIRONMENT": str(self.shared),
            "UV_NO_SYNC": "1",
            # Has precedence over the sources from which the environment was made: they may be of the other sink.
            "PYTHONPATH": str(self.path / "src"),
            # One cache for all projects: most of the packages that mypy reads are the same for each engine.
            "MYPY_CACHE_DIR": str(self.shared.parent / "mypy"),
        }

    def copy(self, folder: Path) -> "Installed":
        """Return a copy in `folder`, for a test that changes the project, with the same environment."""
        return replace(self, path=Path(shutil.copytree(self.path, folder)))

    def tool(self, name: str) -> str:
        """Return the path of a program in the project's environment."""
        environment = self.shared or self.path / ".venv"
        return str(environment / ("Scripts" if sys.platform == "win32" else "bin") / name)

    def run(self, *command: str, **environment: str) -> str:
        """Run a tool in the project's environment and return its output; fails if the tool does."""
        result = subprocess.run(
            ["uv", "run", *command],
            cwd=self.path,
            env=ENVIRONMENT | self.variables | environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
        return result.stdout


Install = Callable[[str, str], Installed]


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Installs a sink and an engine: once for all processes of the tests, in one environment for each engine."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "installed"
    folder.mkdir(exist_ok=True)

    def install(sink: str, engine: str) -> Installed:
        path, shared = folder / f"{engine}-{sink}", folder / engine
        with FileLock(folder / f"{engine}.lock"):
            if not path.exists():
                generate(path, sink=sink, engine=engine)
            project = Installed(path / "projects" / "myservice", sink, engine, shared)
            if not shared.exists():
                command, variables = ["uv", "sync"], {"UV_PROJECT_ENVIRONMENT": str(shared)}
                subprocess.run(command, cwd=project.path, env=ENVIRONMENT | variables, check=True, capture_output=True)
        return project

    return install


def variants(sinks: Iterable[str] = PROMPTS["sink"], engines: Iterable[str] = PROMPTS["engine"]) -> list[Any]:
    """Return parameters for the fixture `installed`: each of `engines` with each of `sinks`."""
    return [pytest.param((sink, engine), id=f"{sink}-{engine}") for engine in engines for sink in sinks]


def few_variants() -> list[Any]:
    """Return parameters like `variants`, but only one for each engine; the sinks take turns."""
    return [variants([sink], [engine])[0] for sink, engine in zip(itertools.cycle(PROMPTS["sink"]), PROMPTS["engine"])]


def few_variants_first() -> list[Any]:
    """Return all `variants`; those that `few_variants` leaves out run only with the faults."""
    few = {variant.id for variant in few_variants()}
    return [
        variant if variant.id in few else pytest.param(*variant.values, id=variant.id, marks=pytest.mark.faults)
        for variant in variants()
    ]


@pytest.fixture(scope="session", params=variants())
def installed(request: pytest.FixtureRequest, install: Install) -> Installed:
    """Each engine with each sink."""
    return install(*request.param)


def pytest_xdist_auto_num_workers() -> int:
    """Run two tests for each core: most of them wait for servers."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """Fail a test that is skipped in CI on Linux, where everything that the tests need is installed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and "CI" in os.environ and sys.platform == "linux":
        report.outcome = "failed"
        report.longrepr = f"Skipped in CI: {report.longrepr[2]}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Run the tests that share a running service in one process, one after the other."""
    for item in items:
        if "service" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(str(item.callspec.params["installed"])))
