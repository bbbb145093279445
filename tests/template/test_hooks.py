"""Refused answers, and the choice of variants."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import PROMPTS, TEMPLATE, Bake, Installed
from cookiecutter.exceptions import FailedHookException, OutputDirExistsException
from cookiecutter.main import cookiecutter


def load(hook: str) -> ModuleType:
    """Import a hook as it stands, before Cookiecutter renders it."""
    spec = importlib.util.spec_from_file_location(hook, TEMPLATE / "hooks" / f"{hook}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pre_gen = load("pre_gen_project")
post_gen = load("post_gen_project")

GOOD = {
    "project_name": "MyService",
    "project_slug": "myservice",
    "package_name": "myservice",
    "description": "It serves.",
    "author_name": "Ada",
    "author_email": "ada@example.com",
    "engine": "background",
}
BAD_TEXTS = ["", " ", "\u200b", "two\nlines", "\x00", "\x7f", "\x85", "\u2028", "\u202e", "\ud800", "\ufffe"]
BAD = {
    "project_name": [*BAD_TEXTS, "x" * 81],
    "project_slug": [
        "",
        "My",
        "2fast",
        "-a",
        "a-",
        "a_b",
        "a b",
        "ä",
        "a" * 41,
        "../up",
        "a/b",
        "con",
        "fastapi",
        "rich",
    ],
    "package_name": [
        *["", "2fast", "a-b", "a.b", "a b"],
        *["class", "match", "type", "_", "None", "__main__", "__pycache__"],
        *["json", "JSON", "test", "imp", "annotationlib", "pytest", "fastapi", "pydantic_core", "yaml"],
        *["tests", "conftest", "clients", "con", "nul", "COM1"],
        *["ｊｓｏｎ", "ﬁle", "a" * 41, "ö" * 21],
    ],
    "description": BAD_TEXTS,
    "author_name": BAD_TEXTS,
    "author_email": [
        *BAD_TEXTS,
        "ada",
        "ada@",
        "@b.de",
        "ada@b",
        "a b@b.de",
        "a@b@c.de",
        '"a"@b.de',
        *"a..b@c.de .a@b.de a.@b.de a@-b.de a@b-.de a@b..de a@b.de. -@-.- \ufeffa@b.de".split(),
        "y" * 65 + "@b.de",
        "x" * 250 + "@b.de",
    ],
}
FINE = {
    "project_name": ["x" * 80, 'O\'Reilly "Quoted" """ Ünï — 名 🚀 👩‍💻 <b> & \\ #{}%'],
    "project_slug": ["a", "a" * 40, "a-1", "tests", "json"],
    "package_name": ["a", "_a1", "main", "MyService", "größe", "a" * 40, "ö" * 20, "test_service"],
    "author_email": ["a.b+c@example.co.uk", "jörg@exämple.de", "x" * 64 + "@b-c.d1.example"],
}


def cases(answers: dict[str, list[str]]) -> list[Any]:
    return [
        pytest.param(prompt, value, id=f"{prompt}-{value!a:.20}") for prompt in answers for value in answers[prompt]
    ]


def test_defaults_are_accepted() -> None:
    assert pre_gen.faults(GOOD) == []


@pytest.mark.parametrize(("prompt", "value"), cases(FINE))
def test_accepted(prompt: str, value: str) -> None:
    assert pre_gen.faults(GOOD | {prompt: value}) == []


@pytest.mark.parametrize(("prompt", "value"), cases(BAD))
def test_refused(prompt: str, value: str) -> None:
    (line,) = pre_gen.faults(GOOD | {prompt: value})

    assert line.startswith(f"{prompt}: ")
    assert line.isprintable()


@pytest.mark.parametrize(
    ("prompt", "value"),
    [
        ("license", "GPL"),
        ("python_version", 3.11),
        ("python_version", "2.7"),
        ("sink", None),
        ("engine", "rabbit"),
        ("container", "no"),
        ("ci", "../x"),
    ],
)
def test_choice_that_is_none_is_refused(prompt: str, value: object) -> None:
    (line,) = pre_gen.faults(GOOD | {prompt: value})

    assert line.startswith(f"{prompt}: {json.dumps(value)} must be one of ")


def test_pre_gen_knows_every_choice() -> None:
    switches = {prompt: [True, False] for prompt, default in PROMPTS.items() if isinstance(default, bool)}
    choices = {prompt: default for prompt, default in PROMPTS.items() if isinstance(default, list)}

    assert choices | switches == pre_gen.CHOICES


def test_engines_that_were_not_chosen_leave_their_names_free() -> None:
    names = {"project_slug": "flower", "package_name": "flower"}

    assert pre_gen.faults(GOOD | names) == []
    assert len(pre_gen.faults(GOOD | names | {"engine": "celery"})) == 2


def test_every_fault_gets_a_line() -> None:
    lines = pre_gen.faults(dict.fromkeys(GOOD, "") | {"engine": "rq"})

    assert [line.split(":")[0] for line in lines] == [prompt for prompt in GOOD if prompt != "engine"]


def test_refusal_leaves_nothing_behind(tmp_path: Path) -> None:
    refusal = subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input", "package_name=class", "author_email=ada"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )

    assert refusal.returncode == 1
    assert refusal.stdout + refusal.stderr == (
        'package_name: "class" is a keyword of Python\n'
        'author_email: "ada" must be an e-mail address, such as you@example.com\n'
    )
    assert list(tmp_path.iterdir()) == []


def test_bad_slug_makes_no_folder(bake: Bake, tmp_path: Path) -> None:
    with pytest.raises(FailedHookException, match="project_slug"):
        bake(project_slug="a/b", package_name="a")

    assert not (tmp_path / "projects").exists()


def test_hook_refuses_replayed_answers(bake: Bake, tmp_path: Path) -> None:
    bake()
    (replay,) = (tmp_path / "replay").glob("*.json")
    replay.write_text(replay.read_text(encoding="utf-8").replace('"Your Name"', '" "'), encoding="utf-8")

    with pytest.raises(FailedHookException):
        cookiecutter(
            str(TEMPLATE),
            replay=True,
            output_dir=str(tmp_path / "again"),
            config_file=str(tmp_path / "config.yaml"),
        )

    assert list((tmp_path / "again").iterdir()) == []


def test_existing_folder_is_left_alone(bake: Bake, tmp_path: Path) -> None:
    (tmp_path / "projects" / "myservice").mkdir(parents=True)

    with pytest.raises(OutputDirExistsException):
        bake()

    assert list((tmp_path / "projects" / "myservice").iterdir()) == []


def test_installed_packages_cannot_be_names(installed: Installed) -> None:
    """What the hook refuses is what the environment holds."""
    listing = """
from importlib.metadata import packages_distributions
for module, names in packages_distributions().items():
    if module.isidentifier() and not module.startswith("__"):
        print(module, *names)
"""
    rows = installed.run("--all-groups", "python", "-c", listing).splitlines()
    modules = {row.split()[0] for row in rows} - {"myservice"}
    names = {name.lower().replace("_", "-") for row in rows for name in row.split()[1:]} - {"myservice"}

    assert {module for module in modules if not pre_gen.package_fault(module, installed.engine)} == set()
    assert {name for name in names if not pre_gen.slug_fault(name, installed.engine)} == set()


def test_modules_of_tests_cannot_be_names() -> None:
    (tests,) = TEMPLATE.glob("*cookiecutter.project_slug*/tests")

    assert set(pre_gen.TEST_MODULES.split()) == {"tests", *(path.name.split(".")[0] for path in tests.iterdir())}


def test_post_gen_knows_every_choice() -> None:
    choices = {prompt for prompt, default in PROMPTS.items() if isinstance(default, list)}
    switches = {prompt for prompt, default in PROMPTS.items() if isinstance(default, bool)}

    # No file of its own belongs to a Python version.
    assert set(post_gen.CHOICES) == choices - {"python_version"}
    assert set(post_gen.SWITCHES) == switches


@pytest.mark.parametrize(
    ("choices", "chosen", "belongs"),
    [
        ("file", {"file"}, True),
        ("file", {"stdout"}, False),
        ("celery+rq", {"rq"}, True),
        ("celery+rq", {"background"}, False),
        ("container.rq", {"container", "rq"}, True),
        ("container.rq", {"container", "celery"}, False),
        ("Apache-2.0", {"Apache-2.0"}, True),
        ("Apache-2.0", {"MIT"}, False),
    ],
)
def test_is_chosen(choices: str, chosen: set[str], belongs: bool) -> None:
    assert post_gen.is_chosen(choices, chosen) == belongs


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("sink.file.py", ("file", "sink.py")),
        ("LICENSE.Apache-2.0.bare", ("Apache-2.0", "LICENSE")),
        (".gitlab-ci.gitlab.yml", ("gitlab", ".gitlab-ci.yml")),
        (".dockerignore.container.bare", ("container", ".dockerignore")),
        ("main.py", None),
        (".env.example", None),
        (".gitignore", None),
        ("README", None),
    ],
)
def test_split_variant(name: str, variant: tuple[str, str] | None) -> None:
    assert post_gen.split_variant(name) == variant


def test_pick_variants(tmp_path: Path) -> None:
    for name in ["sink.file.py", "sink.stdout.py", "main.py", ".github/workflows/ci.github.yml", "kept/ci.file.yml"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")

    post_gen.pick_variants(tmp_path, {"file"})

    left = {
        path.relative_to(tmp_path).as_posix(): path.read_text(encoding="utf-8")
        for path in tmp_path.rglob("*.*")
        if path.is_file()
    }
    assert left == {"sink.py": "sink.file.py", "main.py": "main.py", "kept/ci.yml": "kept/ci.file.yml"}
    assert not (tmp_path / ".github").exists()
