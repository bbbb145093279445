"""The questions, and where else they stand."""

import json
import re

import pytest
from conftest import PROMPTS, TEMPLATE

LABELS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))["__prompts__"]


def test_every_prompt_has_a_label() -> None:
    assert list(LABELS) == list(PROMPTS)


@pytest.mark.parametrize("prompt", [prompt for prompt, default in PROMPTS.items() if isinstance(default, list)])
def test_every_choice_has_a_label_that_starts_with_it(prompt: str) -> None:
    labels = dict(LABELS[prompt])

    assert labels.pop("__prompt__")
    assert list(labels) == PROMPTS[prompt]
    for choice, label in labels.items():
        assert label.split()[0] == choice


def test_readme_lists_the_prompts() -> None:
    readme = (TEMPLATE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|", readme, flags=re.MULTILINE)
    defaults = {
        "project_slug": "from the name",
        "package_name": "from the slug",
    }

    def told(prompt: str) -> tuple[str, str]:
        default = PROMPTS[prompt]
        if isinstance(default, list):
            return f"`{default[0]}`", ", ".join(f"`{choice}`" for choice in default)
        if isinstance(default, bool):
            return ("`yes`" if default else "`no`"), "`yes`, `no`"
        return (defaults.get(prompt) or f"`{default}`"), ""

    assert [row[0] for row in rows] == list(PROMPTS)
    for prompt, default, choices in rows:
        told_default, told_choices = told(prompt)
        assert default == told_default, prompt
        assert choices.startswith(told_choices), prompt
