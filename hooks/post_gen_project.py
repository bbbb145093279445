"""Keeps the variants that were chosen, and says what to do next.

Cookiecutter renders this file and runs it in the generated project. Only the standard library is there for certain.
"""

import json
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
{slug} is ready. Start it, test it, and send it a first request:

    uv run --directory {slug} fastapi dev
    uv run --directory {slug} pytest
    curl -X POST 'http://127.0.0.1:8000/log/?message=hello'
"""


def chosen_variants(answers: dict[str, str | bool]) -> set[str]:
    """The names that chosen variants carry in their file names."""
    return {str(answers[prompt]) for prompt in CHOICES} | {prompt for prompt in SWITCHES if answers[prompt]}


def split_variant(name: str) -> tuple[str, str] | None:
    """Split a variant's file name `<stem>.<choice>.<suffix>` into its choice and the name that the project gives it.

    The suffix `bare` stands for none. A leading dot belongs to the stem. Returns None for the name of any other file.
    """
    stem, _, rest = name[1:].partition(".")
    choice, _, suffix = rest.rpartition(".")
    if not choice:
        return None
    plain = name[0] + stem
    return choice, plain if suffix == "bare" else f"{plain}.{suffix}"


def pick_variants(project: Path, chosen: set[str]) -> None:
    """Give the chosen variants their plain names, remove the others, and the folders that are left empty."""
    # The deepest paths come first, so that a folder is looked at after what it held.
    for path in sorted(project.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif variant := split_variant(path.name):
            choice, plain = variant
            if choice in chosen:
                path.rename(path.with_name(plain))
            else:
                path.unlink()


def main() -> int:
    """Finish the project in the current folder; returns 0."""
    answers = json.loads(ANSWERS)
    pick_variants(Path.cwd(), chosen_variants(answers))
    print(NEXT.format(slug=answers["project_slug"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
