"""Every combination of answers gives a clean project, with nothing in it that was not chosen."""

import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from checks import check_layout, check_ruff, parse, texts
from conftest import ENVIRONMENT, PROMPTS, Bake, generate

# Choices that decide which code a project has, and choices that decide details.
STRUCTURE = ("sink", "engine", "container")
DETAILS = ("license", "python_version", "ci")


def combinations(*prompts: str) -> list[dict[str, Any]]:
    """Return every combination of answers to some prompts."""
    choices = [[True, False] if isinstance(PROMPTS[prompt], bool) else PROMPTS[prompt] for prompt in prompts]
    return [dict(zip(prompts, answers, strict=True)) for answers in itertools.product(*choices)]


def covering_combinations() -> list[dict[str, Any]]:
    """Return few combinations of all answers: each combination of `STRUCTURE`, and each pair of any two answers."""
    everything = combinations(*STRUCTURE, *DETAILS)
    uncovered = {pair for answers in everything for pair in itertools.combinations(answers.items(), 2)}
    chosen: list[dict[str, Any]] = []

    def choose(candidates: list[dict[str, Any]]) -> None:
        chosen.append(max(candidates, key=lambda answers: len(uncovered & pairs(answers))))
        uncovered.difference_update(pairs(chosen[-1]))

    def pairs(answers: dict[str, Any]) -> set[Any]:
        return set(itertools.combinations(answers.items(), 2))

    for structure in combinations(*STRUCTURE):
        choose([answers for answers in everything if structure.items() <= answers.items()])
    while uncovered:
        choose(everything)
    return chosen


def modules(folder: str, names: str) -> set[str]:
    """Return the paths of Python modules in a folder."""
    return {f"{folder}/{name}.py" for name in names.split()}


ALWAYS = {
    ".env.example",
    ".gitignore",
    ".pre-commit-config.yaml",
    "README.md",
    "pyproject.toml",
    "src/myservice/py.typed",
    *modules("src/myservice", "__init__ health logs main middleware models pages routes settings sink tasks"),
    *modules(
        "tests",
        "conftest test_health test_logs test_main test_middleware test_pages test_routes test_settings test_sink",
    ),
}
FILES: dict[str, dict[Any, set[str]]] = {
    "engine": {
        "background": modules("src/myservice", "runner shutdown") | modules("tests", "test_runner"),
        "celery": modules("src/myservice", "broker tracing transport worker")
        | modules("tests", "test_broker test_redis_down test_tracing test_transport test_worker"),
        "rq": modules("src/myservice", "broker jobs scheduler tracing worker")
        | modules("tests", "test_broker test_redis_down test_scheduler test_tracing test_worker"),
    },
    "container": {True: {"Dockerfile", ".dockerignore", "compose.yaml", "nginx.conf"}, False: set()},
    "ci": {
        "github": {".github/workflows/ci.yml", ".github/dependabot.yml"},
        "gitlab": {".gitlab-ci.yml"},
        "none": set(),
    },
    "license": {"MIT": {"LICENSE"}, "Apache-2.0": {"LICENSE"}, "BSD-3-Clause": {"LICENSE"}, "Proprietary": set()},
}
# Words that stand in a project only where the choice that they belong to was made.
WORDS: dict[str, dict[Any, str]] = {
    "sink": {"file": r"records_dir|\brecords[/\"`]|\.txt", "stdout": r"(?<!sys\.)stdout|standard output"},
    "engine": {
        "background": r"BackgroundTasks",
        "celery": r"celery|kombu|flower",
        "rq": r"\brq\b|\brq[-_]",
    },
    "container": {True: r"docker(?!s)|compose|container"},
    "ci": {"github": r"github(?!\.com/celery)", "gitlab": r"gitlab"},
    "license": {"MIT": r"\bMIT\b", "Apache-2.0": r"apache", "BSD-3-Clause": r"\bBSD\b", "Proprietary": r"proprietary"},
}


def check_project(project: Path, answers: dict[str, Any]) -> None:
    """The project holds the files and the words that belong to its answers, and no others."""
    files = texts(project)

    assert set(files) == ALWAYS.union(*(FILES[prompt][answers[prompt]] for prompt in FILES))
    for name, text in files.items():
        parse(name, text)
        check_layout(name, text)
    everything = "\n".join(name if name == "LICENSE" else name + text for name, text in files.items())
    # The README shows how to change to another engine.
    everything = re.sub(r"""'{"engine": "\w+"}'""", "", everything)
    for prompt, words in WORDS.items():
        for choice, pattern in words.items():
            found = re.findall(pattern, everything, flags=re.IGNORECASE)
            assert bool(found) == (choice == answers[prompt]), f"{prompt}={choice}: {found}"
    assert ("redis" in everything.lower()) == (answers["engine"] != "background")


def check_projects(all_answers: list[dict[str, Any]], folder: Path, subtests: pytest.Subtests) -> None:
    """Generate a project for each of `all_answers`, and check all of them."""
    for answers in all_answers:
        with subtests.test(answers=answers):
            check_project(generate(folder / "-".join(map(str, answers.values())), **answers), answers)
    check_ruff(folder)


def test_combinations(tmp_path: Path, subtests: pytest.Subtests) -> None:
    check_projects(covering_combinations(), tmp_path, subtests)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "structure", combinations(*STRUCTURE), ids=lambda answers: "-".join(map(str, answers.values()))
)
def test_every_combination(structure: dict[str, Any], tmp_path: Path, subtests: pytest.Subtests) -> None:
    check_projects([structure | details for details in combinations(*DETAILS)], tmp_path, subtests)


@pytest.mark.parametrize("engine", ["celery", "rq"])
def test_files_of_redis_are_not_committed(bake: Bake, engine: str) -> None:
    project = bake(engine=engine)
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    for file in ("appendonly.aof", "appendonlydir/appendonly.aof.1.base.rdb", "dump.rdb"):
        assert subprocess.run(["git", "check-ignore", "--quiet", file], cwd=project).returncode == 0, file


@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_web_side_never_imports_the_worker(bake: Bake, engine: str) -> None:
    package = bake(engine=engine) / "src" / "myservice"
    for module in ("main", "routes", "health", "middleware", "tasks"):
        assert not re.search("import.*worker", (package / f"{module}.py").read_text(encoding="utf-8")), module


@pytest.mark.parametrize("version", PROMPTS["python_version"])
def test_oldest_python(bake: Bake, version: str) -> None:
    files = texts(bake(python_version=version))
    versions = PROMPTS["python_version"][PROMPTS["python_version"].index(version) :]

    assert tomllib.loads(files["pyproject.toml"])["project"]["requires-python"] == f">={version}"
    assert (
        yaml.safe_load(files[".github/workflows/ci.yml"])["jobs"]["check"]["strategy"]["matrix"]["python"] == versions
    )
    assert set(re.findall(r"^FROM python:(\S+)-slim", files["Dockerfile"], flags=re.MULTILINE)) == {version}


@pytest.mark.parametrize("license_", PROMPTS["license"])
def test_license(bake: Bake, license_: str) -> None:
    files = texts(bake(license=license_, author_name="Ada Lovelace"))
    project = tomllib.loads(files["pyproject.toml"])["project"]

    if license_ == "Proprietary":
        assert project["license"] == "LicenseRef-Proprietary"
        assert "license-files" not in project
    else:
        title = {"MIT": "MIT License", "Apache-2.0": "Apache License", "BSD-3-Clause": "BSD 3-Clause License"}
        assert project["license"] == license_
        assert files["LICENSE"].split("\n\n")[0].strip().startswith(title[license_])
        assert license_ == "Apache-2.0" or "Copyright (c) Ada Lovelace" in files["LICENSE"]


COMMON = {
    "email-validator",
    "fastapi",
    "fastapi-offline",
    "pydantic",
    "pydantic-settings",
    "python-dotenv",
    "python-json-logger",
    "uvicorn",
}


@pytest.mark.parametrize(
    ("engine", "own"), [("background", {"anyio"}), ("celery", {"celery", "kombu", "redis"}), ("rq", {"redis", "rq"})]
)
def test_dependencies(bake: Bake, engine: str, own: set[str]) -> None:
    project = tomllib.loads(texts(bake(engine=engine))["pyproject.toml"])
    names = {re.split(r"[\[>]", requirement)[0] for requirement in project["project"]["dependencies"]}

    assert names == COMMON | own


SCHEMAS = {
    "compose.yaml": "compose-spec",
    ".github/workflows/ci.yml": "github-workflows",
    ".github/dependabot.yml": "dependabot",
    ".gitlab-ci.yml": "gitlab-ci",
}


def check(*command: str, project: Path) -> None:
    """Run a checker in a project; fails with its output if it finds a fault."""
    result = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr


def test_schemas(tmp_path: Path) -> None:
    choices = list(itertools.product(PROMPTS["engine"], PROMPTS["sink"], ["github", "gitlab"]))
    projects = [
        generate(tmp_path / "-".join(choice), engine=choice[0], sink=choice[1], ci=choice[2]) for choice in choices
    ]
    for file, schema in SCHEMAS.items():
        files = [str(project / file) for project in projects if (project / file).exists()]
        assert len(files) == (12 if file == "compose.yaml" else 6)
        check("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files, project=tmp_path)


@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_dockerfile(bake: Bake, engine: str) -> None:
    project = bake(engine=engine)
    check("hadolint", "Dockerfile", project=project)
    stages = re.split(
        r"^FROM .*(?<! AS build)(?<! AS build-monitor)$", texts(project)["Dockerfile"], flags=re.MULTILINE
    )

    assert all(re.search(r"^USER 10001$", stage, re.MULTILINE) for stage in stages[1:])


def test_workflow(bake: Bake) -> None:
    check("zizmor", "--offline", "--pedantic", ".", project=bake())


@pytest.mark.skipif(sys.platform == "win32", reason="CI runs on Linux")
@pytest.mark.parametrize(
    ("ci", "file", "steps"),
    [
        ("github", ".github/workflows/ci.yml", lambda job: [step.get("run", "") for step in job["steps"]]),
        ("gitlab", ".gitlab-ci.yml", lambda job: job["before_script"]),
    ],
)
def test_ci_installs_what_is_locked(bake: Bake, ci: str, file: str, steps: Callable[[Any], list[str]]) -> None:
    project = bake(ci=ci)
    workflow = yaml.safe_load((project / file).read_text(encoding="utf-8"))
    (install,) = [step for step in steps(workflow.get("jobs", workflow)["check"]) if "uv sync" in step]

    def installed() -> str:
        script = f"uv() {{ echo $*; }}; {install}"
        return subprocess.check_output(["bash", "-e", "-c", script], cwd=project, text=True)

    assert installed() == "sync\n"
    (project / "uv.lock").touch()
    assert installed() == "sync --locked\n"


@pytest.mark.parametrize("sink", PROMPTS["sink"])
@pytest.mark.parametrize(
    ("engine", "services"),
    [
        ("background", {"proxy", "api"}),
        ("celery", {"redis", "proxy", "api", "worker", "scheduler", "monitor"}),
        ("rq", {"redis", "proxy", "api", "worker", "scheduler", "monitor"}),
    ],
)
def test_compose(bake: Bake, engine: str, sink: str, services: set[str]) -> None:
    compose = yaml.safe_load((bake(engine=engine, sink=sink) / "compose.yaml").read_text(encoding="utf-8"))

    assert set(compose["services"]) == services
    assert {name for name, service in compose["services"].items() if "ports" in service} <= {"proxy", "monitor"}
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"]
        assert service.keys() >= {"mem_limit", "pids_limit"}
        assert service.keys() & {"build", "user"}  # the built images have a user
    assert ("records" in compose.get("volumes", {})) == (sink == "file")
    assert ("redis" in compose.get("volumes", {})) == (engine != "background")


@pytest.mark.parametrize("engine", ["celery", "rq"])
def test_compose_protects_redis_and_its_monitor(bake: Bake, engine: str) -> None:
    services = yaml.safe_load((bake(engine=engine) / "compose.yaml").read_text(encoding="utf-8"))["services"]

    assert "--requirepass ${REDIS_PASSWORD}" in services["redis"]["command"]
    for name in ("api", "worker", "scheduler"):
        assert re.fullmatch(
            r"redis://:\$\{REDIS_PASSWORD:\?.*\}@redis:6379/0", services[name]["environment"]["REDIS_URL"]
        )
    monitor = services["monitor"]
    assert monitor["profiles"] == ["monitor"]
    assert "env_file" not in monitor
    assert list(monitor["environment"].values()) == [services["api"]["environment"]["REDIS_URL"]]
    assert {"celery": "--read-only", "rq": "--disable-delete"}[engine] in monitor["command"]


def test_same_answers_give_the_same_project(bake: Bake, tmp_path: Path) -> None:
    first = texts(bake())
    (tmp_path / "projects").rename(tmp_path / "first")

    assert texts(bake()) == first
