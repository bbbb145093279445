"""Prompts, their labels, and the table in README.md."""

import json
import re

import pytest
from conftest import PROMPTS, TEMPLATE

LABELS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))["__prompts__"]


def test_every_prompt_has_a_label() -> None:
    assert list(LABELS) == list(PROMPTS)


@pytest.mark.parametrize("prompt", [prompt for prompt, default in PROMPTS.items() if isinstance(default, list)])
def test_labels_of_choices_form_two_columns(prompt: str) -> None:
    labels = dict(LABELS[prompt])
    width = max(len(choice) for choice in PROMPTS[prompt]) + 2

    assert labels.pop("__prompt__")
    assert list(labels) == PROMPTS[prompt]
    for choice, label in labels.items():
        assert label[:width] == choice.ljust(width)
        assert label[width:].strip() == label[width:] != ""


def test_readme_lists_the_prompts() -> None:
    readme = (TEMPLATE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|", readme, flags=re.MULTILINE)
    derived = {"project_slug": "from the name", "package_name": "from the slug"}

    assert [row[0] for row in rows] == list(PROMPTS)
    for prompt, default, choices in rows:
        match PROMPTS[prompt]:
            case list() as values:
                expected = f"`{values[0]}`", ", ".join(f"`{value}`" for value in values)
            case bool() as value:
                expected = ("`yes`" if value else "`no`"), "`yes`, `no`"
            case text:
                expected = derived.get(prompt, f"`{text}`"), ""
        assert default == expected[0], prompt
        assert choices.startswith(expected[1]), prompt
