"""Checks that hold for every generated project."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import yaml


def texts(project: Path) -> dict[str, str]:
    """Return the text of each file of a project, by its path."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes().decode()
        for path in sorted(project.rglob("*"))
        if path.is_file()
    }


def parse(name: str, text: str) -> None:
    """Parse a file; raises the error of the parser of its language."""
    match Path(name).suffix:
        case ".py":
            compile(text, name, "exec")
        case ".toml":
            tomllib.loads(text)
        case ".yml" | ".yaml":
            yaml.safe_load(text)
        case ".json":
            json.loads(text)


def check_layout(name: str, text: str) -> None:
    """Check that rendering left no Jinja, no superfluous blank line and no space at the end of a line."""
    assert not re.search(r"(?<!\$)\{\{|\{%|\{#|cookiecutter", text), name
    assert not re.search(r"[ \t]$", text, flags=re.MULTILINE), f"{name}: space at the end of a line"
    assert "\r" not in text, name
    assert text == "" or text.endswith("\n"), f"{name}: no newline at the end"
    assert not text.endswith("\n\n"), f"{name}: blank line at the end"
    if not name.startswith("LICENSE"):
        assert not text.startswith("\n"), f"{name}: blank line at the start"
    blank = 2 if name.endswith((".py", ".md")) else 1  # Markdown shows Python
    if name != "LICENSE":
        assert "\n" * (blank + 2) not in text, f"{name}: more than {blank} blank lines"


def check_ruff(project: Path) -> None:
    for arguments in (["check", "--no-fix"], ["format", "--check"]):
        ruff = subprocess.run(["ruff", *arguments, "--no-cache"], cwd=project, capture_output=True, text=True)
        assert ruff.returncode == 0, ruff.stdout + ruff.stderr
