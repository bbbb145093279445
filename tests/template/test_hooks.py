"""The hooks: when a folder is refused, which files are kept, and what is printed."""

import json
import os
import shlex
from pathlib import Path

import pytest
from checks import texts
from conftest import Bake, copy_template, generate, load, run_cookiecutter
from cookiecutter.exceptions import FailedHookException, OutputDirExistsException

pre_gen = load("hooks/pre_gen_project.py")
post_gen = load("hooks/post_gen_project.py")


def test_pre_gen_accepts_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pre_gen, "ANSWER_FAULTS", "[]")

    assert pre_gen.main() == 0
    assert capsys.readouterr() == ("", "")


def test_pre_gen_prints_each_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "{{ slug }}"
    folder.mkdir()
    (folder / "mine.txt").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(pre_gen, "ANSWER_FAULTS", json.dumps(["one", "two"]))

    assert pre_gen.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        "one",
        "two",
        f"{folder}: the folder is not empty; generate elsewhere, or update the project with cruft",
        f"{folder}: the path contains {{ followed by {{, % or #, which Cookiecutter renders; generate elsewhere",
    ]


@pytest.mark.parametrize("mark", ["{{", "{%", "{#"])
def test_path_that_would_be_rendered_is_refused(tmp_path: Path, mark: str) -> None:
    with pytest.raises(FailedHookException):
        generate(tmp_path / f"{mark} 7 }}}}")

    assert list(tmp_path.rglob("myservice")) == []


@pytest.mark.parametrize("options", [[], ["overwrite_if_exists"], ["overwrite_if_exists", "skip_if_file_exists"]])
def test_folder_with_files_is_left_alone(tmp_path: Path, options: list[str]) -> None:
    # The name is that of a variant, which the hook would rename.
    kept = tmp_path / "projects" / "myservice" / "data.file.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept", encoding="utf-8")

    with pytest.raises((OutputDirExistsException, FailedHookException)):
        run_cookiecutter(tmp_path, no_input=True, **dict.fromkeys(options, True))

    assert texts(tmp_path / "projects") == {"myservice/data.file.csv": "kept"}


@pytest.mark.parametrize("hook", ["pre_gen_project", "post_gen_project"])
def test_failing_hook_leaves_nothing(tmp_path: Path, hook: str) -> None:
    template = copy_template(tmp_path / "template")
    script = template / "hooks" / f"{hook}.py"
    script.write_text(script.read_text(encoding="utf-8").replace("def main() ", "1 / 0\n\n\ndef main() "), "utf-8")

    with pytest.raises(FailedHookException):
        generate(tmp_path, template)

    assert list((tmp_path / "projects").iterdir()) == []


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


def test_choices_are_chosen_by_value_and_booleans_by_name() -> None:
    extension = load("local_extensions.py")
    answers = {prompt: choices[0] for prompt, choices in extension.CHOICES.items()}

    assert extension.chosen_variants(answers) == ["MIT", "3.11", "file", "background", "container", "github"]
    assert extension.chosen_variants(answers | {"container": False}) == ["MIT", "3.11", "file", "background", "github"]


def test_pick_variants(tmp_path: Path) -> None:
    for name in ["sink.file.py", "sink.stdout.py", "main.py", ".github/workflows/ci.github.yml", "kept/ci.file.yml"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")

    post_gen.pick_variants(tmp_path, {"file"})

    assert texts(tmp_path) == {"sink.py": "sink.file.py", "main.py": "main.py", "kept/ci.yml": "kept/ci.file.yml"}
    assert not (tmp_path / ".github").exists()


@pytest.mark.parametrize(("engine", "needs_redis"), [("background", False), ("celery", True), ("rq", True)])
def test_next_steps(
    bake: Bake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    engine: str,
    needs_redis: bool,
) -> None:
    monkeypatch.setenv("PWD", str(tmp_path))
    bake(engine=engine)
    said = capfd.readouterr().out

    assert said.startswith("\nmyservice is ready. ")
    for command in ("fastapi dev", "pytest"):
        assert f"    uv run --directory {shlex.quote(str(Path('projects', 'myservice')))} {command}\n" in said
    assert "    curl -X POST 'http://127.0.0.1:8000/log/?message=hello'\n" in said
    assert ("Redis" in said) == needs_redis


def test_next_steps_name_the_whole_path_outside_a_shell(
    bake: Bake, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PWD", raising=False)
    project = bake()

    assert f"uv run --directory {shlex.quote(str(project))} pytest" in capfd.readouterr().out


def test_terminal_that_cannot_show_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PWD", os.fspath(tmp_path))
    project = generate(tmp_path / "名")

    assert (project / "pyproject.toml").is_file()
    assert r"\u540d" in capfd.readouterr().out
