"""Keeps the variants that were chosen, and says what to do next.

Cookiecutter renders this file and runs it in the generated project. Only the standard library is there for certain.
"""

import json
import os
import shlex
import sys
from pathlib import Path

# Answers arrive as JSON in a raw string: valid Python also before rendering, and nothing in them is ever executed.
ANSWERS = r"""
{{ cookiecutter | jsonify }}
"""

# The prompts whose answers name variants: a choice by its value, a yes-or-no by its own name.
CHOICES = ("license", "sink", "engine", "ci")
SWITCHES = ("container",)

NEXT = """
{slug} is ready{besides}. Start it, test it, and send it a first request:

    uv run --directory {folder} fastapi dev
    uv run --directory {folder} pytest
    curl -X POST 'http://127.0.0.1:8000/log/?message=hello'
"""
WORKERS = ", and needs a Redis and a worker, which its README.md says how to start"


def chosen_variants(answers: dict[str, str | bool]) -> set[str]:
    """The names that chosen variants carry in their file names."""
    return {str(answers[prompt]) for prompt in CHOICES} | {prompt for prompt in SWITCHES if answers[prompt]}


def split_variant(name: str) -> tuple[str, str] | None:
    """Split a variant's file name `<stem>.<choices>.<suffix>` into its choices and the name that the project gives it.

    The suffix `bare` stands for none. A leading dot belongs to the stem. Returns None for the name of any other file.
    """
    stem, _, rest = name[1:].partition(".")
    choices, _, suffix = rest.rpartition(".")
    if not choices:
        return None
    plain = name[0] + stem
    return choices, plain if suffix == "bare" else f"{plain}.{suffix}"


def is_chosen(choices: str, chosen: set[str]) -> bool:
    """Whether a file of these choices belongs to the project: `a+b` to either, `a.b` to both together."""
    return choices in chosen or all(chosen.intersection(either.split("+")) for either in choices.split("."))


def pick_variants(project: Path, chosen: set[str]) -> None:
    """Give the chosen variants their plain names, remove the others, and the folders that are left empty."""
    # The deepest paths come first, so that a folder is looked at after what it held.
    for path in sorted(project.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif variant := split_variant(path.name):
            choices, plain = variant
            if is_chosen(choices, chosen):
                path.rename(path.with_name(plain))
            else:
                path.unlink()


def path_to_type(project: Path) -> str:
    """The path to the project from where the command was typed, as far as the shell tells."""
    try:
        return os.path.relpath(project, os.environ["PWD"])
    except (KeyError, ValueError):
        # Unknown, or on another drive of Windows.
        return str(project)


def main() -> int:
    """Finish the project in the current folder; returns 0."""
    answers = json.loads(ANSWERS)
    # A path that the terminal cannot show is no reason to fail.
    sys.stdout.reconfigure(errors="backslashreplace")
    pick_variants(Path.cwd(), chosen_variants(answers))
    besides = "" if answers["engine"] == "background" else WORKERS
    print(NEXT.format(slug=answers["project_slug"], folder=shlex.quote(path_to_type(Path.cwd())), besides=besides))
    return 0


if __name__ == "__main__":
    sys.exit(main())
