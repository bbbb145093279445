"""What a generated project brings along works in an environment built from its own pyproject.toml."""

import json
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
from conftest import PROMPTS, TOOLS, Bake, Installed, generate, variants
from serving import Redis


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_passes(installed: Installed, tool: str) -> None:
    installed.run(*tool.split())


@pytest.mark.parametrize("installed", variants(), indirect=True)
def test_commands_are_listed(installed: Installed) -> None:
    listed = re.findall(
        r"^  (\w+)  +[A-Z]", installed.run("poe", "--help").partition("Configured tasks:")[2], re.MULTILINE
    )

    workers = [] if installed.engine == "background" else ["worker", "schedule"]
    assert sorted(listed) == sorted(["dev", "test", "fix", "lint", *workers])


@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_first_commit_passes_its_hooks(bake: Bake, engine: str) -> None:
    project = Installed(bake(engine=engine), "file", engine)
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=project.path, check=True)
    said = project.run("pre-commit", "run", "--all-files")

    assert said.count("Passed") == 5
    subprocess.run(["git", "diff", "--exit-code"], cwd=project.path, check=True)


@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_own_task_is_three_steps(bake: Bake, engine: str) -> None:
    """Takes the code from the project's README, and puts it where that says."""
    project = bake(engine=engine)
    section = (project / "README.md").read_text(encoding="utf-8").partition("## Add a task of your own")[2]
    blocks = re.findall(r"^   ```python\n(.*?)^   ```$", section, re.MULTILINE | re.DOTALL)
    task, endpoint, test = map(textwrap.dedent, blocks)
    lines = re.findall(r"`(\w+\.py)`,\s+with `(add_up = .*?|from \S+ import add_up)`", section)
    assert len(lines) == (1 if engine == "rq" else 2)
    package = project / "src" / "myservice"
    for file, text in [
        (package / "tasks.py", task),
        *((package / module, line) for module, line in lines),
        (package / "routes.py", endpoint),
        (project / "tests" / "test_routes.py", test),
    ]:
        file.write_text(f"{file.read_text(encoding='utf-8')}\n\n{text}", encoding="utf-8")

    said = Installed(project, "file", engine).run(
        "pytest", "--no-cov", "tests/test_routes.py", "-k", "sums or documented"
    )
    assert "2 passed" in said


@pytest.mark.parametrize("installed", variants(engines=["celery", "rq"]), indirect=True)
def test_round_trip_runs_where_redis_answers(installed: Installed, tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    try:
        said = installed.run("pytest", "--no-cov", "-k", "round_trip", REDIS_URL=redis.url)
        assert redis.command("KEYS", "*test-*") == "*0"
    finally:
        redis.process.kill()

    assert "1 passed" in said
    assert "skipped" not in said


def test_clients_see_the_same_service_whatever_was_chosen(tmp_path: Path) -> None:
    document = "import json; from myservice.main import app; print(json.dumps(app.openapi()))"
    documents = {}
    for variant in variants():
        sink, engine = variant.values[0]
        project = Installed(generate(tmp_path / str(variant.id), sink=sink, engine=engine), sink, engine)
        documents[variant.id] = json.loads(project.run("--no-dev", "python", "-c", document))

    default = documents.pop("file-background")
    assert list(default["paths"]) == [
        "/log/",
        "/send-notification/{email}",
        "/complex-task/",
        "/service-event/",
        "/health/live",
        "/health/ready",
    ]
    for document in documents.values():
        assert document == default


@pytest.mark.parametrize("installed", variants(["file"]), indirect=True)
def test_no_dependency_has_a_known_flaw(installed: Installed) -> None:
    packages = installed.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    command = ["pip-audit", "--path", packages, "--format", "json", "--timeout", "5", "--progress-spinner", "off"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    dependencies = json.loads(result.stdout)["dependencies"] if result.stdout else []
    # Where the index cannot be asked, each has a reason to be skipped instead.
    audited = [dependency for dependency in dependencies if "vulns" in dependency]
    if not audited:
        pytest.skip("nothing could be looked up")

    assert not [dependency for dependency in audited if dependency["vulns"]]
