"""What the template's files do with answers, and the refusal of bad ones before even a folder is made."""

import json
import re
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

HERE = Path(__file__).parent
HOOKS = [HERE / "hooks" / f"{when}_gen_project.py" for when in ("pre", "post")]
DEFAULTS = json.loads((HERE / "cookiecutter.json").read_text(encoding="utf-8"))
# What Cookiecutter is meant to render besides the template's files: these texts, and the two names in their paths.
TEXTS = {
    *(default for default in DEFAULTS.values() if isinstance(default, str)),
    *(hook.read_text(encoding="utf-8") for hook in HOOKS),
}

faults = runpy.run_path(str(HOOKS[0]))["faults"]


def quoted(text: str) -> str:
    """Return `text` as a JSON string, which TOML and YAML read too, with every letter left as it is."""
    return json.dumps(text, ensure_ascii=False)


def python_string(text: str) -> str:
    """Return `text` as a Python string in the quotes that `ruff format` would choose: those that escape less."""
    text = text.replace("\\", "\\\\")
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + text.replace(quote, "\\" + quote) + quote


def markdown(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, in a paragraph, a heading or a cell of a table."""
    text = re.sub(r"([\\`*_\[\]<>#|&~$])", r"\\\1", text.strip())
    # What would make a list of a paragraph that begins with it.
    return re.sub(r"^(\d*)([-+.)])", r"\1\\\2", text)


def refuse_faults(answers: Mapping[str, Any]) -> str:
    """Return nothing if the answers can be used; raises FailedHookException, with a line for each that cannot.

    `hooks/pre_gen_project.py` asks again, because answers that are replayed do not come through here. But it runs in
    the project's folder, and a slug such as `a/b` would already have made two.
    """
    if lines := faults(answers):
        raise FailedHookException("\n".join(lines))
    return ""


class Answers(Extension):
    """Adds the filters above to every file of the template and to `cookiecutter.json`, and keeps answers text."""

    def __init__(self, environment: Environment) -> None:
        """Make the filters known to `environment`."""
        super().__init__(environment)
        for function in (quoted, python_string, markdown, refuse_faults):
            environment.filters[function.__name__] = function
        # cruft renders two versions of the template in one process: each is to import a module of its own.
        sys.modules.pop(__name__, None)

    def preprocess(self, source: str, name: str | None, _filename: str | None = None) -> str:
        """Return `source` with its braces made text if it is an answer, which Cookiecutter would run; else as it is.

        What is typed at a prompt is text anyway; but not what comes from a command line, a file or `cruft update`.
        """
        if name is None and source not in TEXTS:
            return re.sub(r"\{(?=[{%#])(?!\{cookiecutter\.(project_slug|package_name)\}\})", "{{ '{' }}", source)
        return source
