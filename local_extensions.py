"""What the template's files do with answers, and the refusal of bad ones before even a folder is made."""

import json
import re
import runpy
from collections.abc import Mapping
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

faults = runpy.run_path(str(Path(__file__).parent / "hooks" / "pre_gen_project.py"))["faults"]


def quoted(text: str) -> str:
    """Return `text` as a JSON string, which TOML and YAML read too, with every letter left as it is."""
    return json.dumps(text, ensure_ascii=False)


def python_string(text: str) -> str:
    """Return `text` as a Python string in the quotes that `ruff format` would choose: those that escape less."""
    text = text.replace("\\", "\\\\")
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + text.replace(quote, "\\" + quote) + quote


def markdown(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, also in a cell of a table."""
    return re.sub(r"([\\`*_\[\]<>#|&~])", r"\\\1", text)


def refuse_faults(answers: Mapping[str, str]) -> str:
    """Return nothing if the answers can be used; raises FailedHookException, with a line for each that cannot.

    `hooks/pre_gen_project.py` asks again, because answers that are replayed do not come through here. But it runs in
    the project's folder, and a slug such as `a/b` would already have made two.
    """
    if lines := faults(answers):
        raise FailedHookException("\n".join(lines))
    return ""


class Answers(Extension):
    """Adds the filters above to every file of the template and to `cookiecutter.json`."""

    def __init__(self, environment: Environment) -> None:
        """Make the filters known to `environment`."""
        super().__init__(environment)
        for function in (quoted, python_string, markdown, refuse_faults):
            environment.filters[function.__name__] = function
