"""Keeps the chosen variants, and prints the next steps.

Cookiecutter renders this file and runs it in the generated project. Only the standard library is available.
"""

import json
import os
import shlex
import sys
import tomllib
from pathlib import Path

# JSON in a raw string: valid Python before rendering too, and no answer is ever executed.
CHOSEN = r"""
{{ cookiecutter | chosen_variants | jsonify }}
"""

NEXT_STEPS = """
{slug} is ready.{redis} Start it, test it, and send it a request:

    uv run --directory {folder} fastapi dev
    uv run --directory {folder} pytest
    curl -X POST 'http://127.0.0.1:8000/log/?message=hello'
"""
REDIS = " It needs Redis and a worker: see its README.md."


def split_variant(name: str) -> tuple[str, str] | None:
    """Split a file name `<stem>.<choices>.<suffix>` into its choices and the name without them.

    A leading dot belongs to the stem. The suffix `bare` stands for no suffix. Returns None if no choices are named.
    """
    stem, _, rest = name[1:].partition(".")
    choices, _, suffix = rest.rpartition(".")
    if not choices:
        return None
    plain = name[0] + stem
    return choices, plain if suffix == "bare" else f"{plain}.{suffix}"


def is_chosen(choices: str, chosen: set[str]) -> bool:
    """Return whether `chosen` has these choices: `a+b` means either, `a.b` means both."""
    # The whole name first: a choice such as Apache-2.0 has a dot of its own.
    return choices in chosen or all(chosen.intersection(either.split("+")) for either in choices.split("."))


def pick_variants(project: Path, chosen: set[str]) -> None:
    """Rename the chosen variants, and delete the others and the folders that this leaves empty."""
    # Reverse order visits what is in a folder before the folder itself.
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


def needs_redis(project: Path) -> bool:
    """Return whether the project depends on Redis."""
    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return any(requirement.startswith("redis") for requirement in pyproject["project"]["dependencies"])


def path_from_shell(project: Path) -> str:
    """Return the path to `project` from the shell's folder, or its full path if that folder is not known."""
    try:
        return os.path.relpath(project, os.environ["PWD"])
    except (KeyError, ValueError):
        # PWD is not set, or is on another drive of Windows.
        return str(project)


def main() -> int:
    """Finish the project in the current folder, and return the exit status."""
    project = Path.cwd()
    pick_variants(project, set(json.loads(CHOSEN)))
    # A terminal that cannot show the path must not fail the hook.
    sys.stdout.reconfigure(errors="backslashreplace")
    redis = REDIS if needs_redis(project) else ""
    print(NEXT_STEPS.format(slug=project.name, redis=redis, folder=shlex.quote(path_from_shell(project))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
