"""The template's own workflows."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ENVIRONMENT, TEMPLATE

WORKFLOWS = TEMPLATE / ".github" / "workflows"


def load(name: str) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    return workflow


@pytest.mark.parametrize(
    "command",
    [
        ["zizmor", "--offline", "--pedantic", str(TEMPLATE)],
        *(
            ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
            for file in sorted(WORKFLOWS.iterdir())
        ),
        ["check-jsonschema", "--builtin-schema", "vendor.dependabot", str(TEMPLATE / ".github" / "dependabot.yml")],
    ],
    ids=lambda command: f"{command[0]}-{Path(command[-1]).stem}",
)
def test_checkers_find_nothing(command: list[str]) -> None:
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="the workflow runs on Linux")
def test_other_repositories_can_validate_their_own_answers(tmp_path: Path) -> None:
    """Runs what the reusable workflow runs, with answers that a caller could give."""
    answers = '{"project_name": "Stock Desk", "sink": "stdout", "container": false}'
    inputs = {"${{ inputs.answers }}": answers, "${{ inputs.template }}": str(TEMPLATE)}
    (job,) = load("validate.yml")["jobs"].values()
    for step in job["steps"]:
        if "run" in step:
            folder = step.get("working-directory", ".").replace("${{ runner.temp }}", str(tmp_path))
            variables = {name: inputs[value] for name, value in step.get("env", {}).items()}
            result = subprocess.run(
                ["bash", "-e", "-c", step["run"]],
                cwd=tmp_path / folder,
                env=ENVIRONMENT | variables | {"RUNNER_TEMP": str(tmp_path)},
                capture_output=True,
                encoding="utf-8",
            )
            assert result.returncode == 0, step["run"] + result.stdout + result.stderr

    assert (tmp_path / "project" / "src" / "stock_desk").is_dir()
    assert not (tmp_path / "project" / "Dockerfile").exists()


def test_every_supported_python_is_tested() -> None:
    versions = load("tests.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]

    assert versions == yaml.safe_load((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))["python_version"]
