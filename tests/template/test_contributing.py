"""The recipes of CONTRIBUTING.md, followed in a copy of the template."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TEMPLATE, Install, copy_template, generate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the recipes are for bash")


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A copy of the template, in a repository of its own."""
    copy = copy_template(tmp_path / "template")
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=copy, check=True)
    return copy


def follow(recipe: str, template: Path) -> None:
    """Do what a section of CONTRIBUTING.md says."""
    text = (TEMPLATE / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {recipe}\n")[2].partition("\n## ")[0]
    for language, block in re.findall(r"^```(console|diff)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        command = ["bash", "-euo", "pipefail"] if language == "console" else ["git", "apply"]
        result = subprocess.run(command, input=block, cwd=template, capture_output=True, encoding="utf-8")
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("recipe", "answers"), [("engine", {"engine": "huey"}), ("sink", {"sink": "archive"})])
def test_new_choice_gives_a_service_that_works(
    template: Path, tmp_path: Path, install: Install, recipe: str, answers: dict[str, str]
) -> None:
    follow(f"Add a{'n' * (recipe == 'engine')} {recipe}", template)
    # A copy has the dependencies of its original, so it can use the same environment.
    original = install("file", "rq" if recipe == "engine" else "background")

    project = replace(original, path=generate(tmp_path, template, **answers))
    project.run("pytest", "--no-cov", "tests/test_routes.py", "tests/test_sink.py")


def test_new_prompt_is_asked_checked_and_used(template: Path, tmp_path: Path) -> None:
    follow("Add a prompt", template)
    command = ["cookiecutter", str(template), "--no-input", "--output-dir", str(tmp_path), "--default-config"]

    refused = subprocess.run([*command, "team="], capture_output=True, encoding="utf-8")
    assert 'team: "" must not be empty' in refused.stdout + refused.stderr
    subprocess.run([*command, "team=A*Team"], check=True)
    assert r"The team A\*Team owns it." in (tmp_path / "myservice" / "README.md").read_text(encoding="utf-8")
