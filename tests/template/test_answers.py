"""Every answer is refused, or kept unchanged in the project, and none is ever executed."""

import ast
import contextlib
import functools
import html
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cruft
import pytest
import yaml
from checks import check_ruff, parse, texts
from conftest import ENVIRONMENT, PROMPTS, TEMPLATE, Bake, Installed, copy_template, generate, load, run_cookiecutter
from cookiecutter.exceptions import FailedHookException
from cookiecutter.utils import create_env_with_context
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from jinja2 import FileSystemLoader, meta, nodes
from markdown_it import MarkdownIt

extension = load("local_extensions.py")

GOOD = {prompt: default[0] if isinstance(default, list) else default for prompt, default in PROMPTS.items()} | {
    "project_slug": "myservice",
    "package_name": "myservice",
}
FINE = {
    "project_name": ["x" * 80, 'O\'Reilly "Quoted" """ Ünï — 名 🚀 👩‍💻 <b> & \\ #{}%'],
    "project_slug": ["a", "a" * 40, "a-1", "tests", "json"],
    "package_name": ["a", "_a1", "main", "MyService", "größe", "a" * 40, "ö" * 20, "test_service"],
    "author_email": ["a.b+c@example.co.uk", "jörg@exämple.de", "x" * 64 + "@b-c.d1.example"],
}
UNPRINTABLE = "\x00\t\n\x1f\x7f\x85\x9f\u2028\u2029\u202a\u202e\u2066\u2069\ud800\udfff\ufdd0\ufdef\ufffe\uffff"
BAD_TEXTS = ["", " ", "\u200b", *(f"a{character}b" for character in UNPRINTABLE)]
BAD = {
    "project_name": [*BAD_TEXTS, "x" * 81],
    "project_slug": [
        *["", "My", "2fast", "-a", "a-", "a_b", "a b", "ä", "a" * 41, "../up", "a/b"],
        *["con", "fastapi", "pydantic--settings", "ruff"],
    ],
    "package_name": [
        *["", "2fast", "a-b", "a.b", "a b", "ｊｓｏｎ", "ﬁle", "a" * 41, "ö" * 21],
        *["class", "match", "type", "_", "None", "__main__", "__pycache__"],
        *["json", "JSON", "cprofile", "test", "imp", "annotationlib"],
        *["fastapi", "FastAPI", "pydantic_settings", "pythonjsonlogger", "pytest"],
        *["tests", "conftest", "Conftest", "con", "nul", "COM1"],
    ],
    "description": BAD_TEXTS,
    "author_name": BAD_TEXTS,
    "author_email": [
        *[*BAD_TEXTS, "ada", "ada@", "@b.de", "ada@b", "a b@b.de", "a@b@c.de", '"a"@b.de', "\ufeffa@b.de"],
        *"a..b@c.de .a@b.de a.@b.de a@-b.de a@b-.de a@b..de a@b.de. -@-.-".split(),
        *["y" * 65 + "@b.de", "a@" + ".".join(["b" * 50] * 5)],
    ],
}


def cases(answers: dict[str, list[str]]) -> list[Any]:
    """Return a parameter for each prompt and answer."""
    return [pytest.param(prompt, text, id=f"{prompt}-{text!a:.20}") for prompt in answers for text in answers[prompt]]


@pytest.mark.parametrize(("prompt", "answer"), cases(FINE))
def test_fine_answer_is_accepted(prompt: str, answer: str) -> None:
    assert extension.answer_faults(GOOD | {prompt: answer}) == []


@pytest.mark.parametrize(("prompt", "answer"), cases(BAD))
def test_bad_answer_is_refused(prompt: str, answer: str) -> None:
    (line,) = extension.answer_faults(GOOD | {prompt: answer})

    assert line.startswith(f"{prompt}: {json.dumps(answer)} ")
    assert line.isprintable()


def test_each_bad_answer_gets_a_line() -> None:
    lines = extension.answer_faults(GOOD | dict.fromkeys(BAD, ""))

    assert [line.split(":")[0] for line in lines] == list(BAD)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("license", "GPL"),
        ("python_version", 3.11),
        ("python_version", "2.7"),
        ("sink", None),
        ("engine", "rabbit"),
        ("container", "no"),
        ("container", 1),
        ("ci", "../x"),
    ],
)
def test_choice_that_does_not_exist_is_refused(prompt: str, answer: object) -> None:
    (line,) = extension.answer_faults(GOOD | {prompt: answer})

    assert line.startswith(f"{prompt}: {json.dumps(answer)} must be one of ")


@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_names_of_dependencies_are_refused(bake: Bake, engine: str) -> None:
    project = tomllib.loads((bake(engine=engine) / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    names = [re.findall(r"[a-z0-9-]+", requirement)[0] for group in groups for requirement in group]

    assert {"fastapi", "pytest", "ruff"} <= set(names)
    for name in names:
        answers = GOOD | {"engine": engine, "project_slug": name, "package_name": name.replace("-", "_")}
        assert [line.split(" is the name of ")[1] for line in extension.answer_faults(answers)] == [
            "a dependency of the service; choose another name"
        ] * 2
    for name in ("pythonjsonlogger", "dotenv"):
        assert len(extension.answer_faults(GOOD | {"engine": engine, "package_name": name})) == 1


def test_names_of_dependencies_of_other_engines_are_free() -> None:
    names = {"project_slug": "flower", "package_name": "flower"}

    assert extension.answer_faults(GOOD | names) == []
    assert len(extension.answer_faults(GOOD | names | {"engine": "celery"})) == 2


@pytest.mark.parametrize("engine", PROMPTS["engine"])
def test_names_of_test_modules_are_refused(bake: Bake, engine: str) -> None:
    modules = [path.stem for path in (bake(engine=engine) / "tests").glob("*.py")]

    assert "conftest" in modules
    for module in modules:
        assert len(extension.answer_faults(GOOD | {"package_name": module})) == 1


# Checks of a project.

PLAIN = {
    "project_name": "Plain Name",
    "project_slug": "plain-slug",
    "package_name": "plain_package",
    "description": "A plain description.",
    "author_name": "Plain Author",
}


@functools.cache
def plain_project(**choices: Any) -> dict[str, str]:
    """Return the files of a project with plain answers."""
    with tempfile.TemporaryDirectory() as folder:
        return texts(generate(Path(folder), **PLAIN, **choices))


def read_markdown(text: str) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Return the structure of a Markdown text, and what a reader sees of each paragraph, heading and cell."""
    plain = {"text", "text_special"}
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return (
        [(token.type, [child.type for child in token.children or [] if child.type not in plain]) for token in tokens],
        [
            "".join(child.content for child in token.children if child.type in plain)
            for token in tokens
            if token.children
        ],
    )


def check_answers_are_kept(project: Path, answers: dict[str, Any]) -> None:
    """Check that a project holds its answers unchanged, and differs from a plain one in nothing else."""
    files = texts(project)
    pyproject = tomllib.loads(files["pyproject.toml"])
    package = pyproject["tool"]["uv"]["build-backend"]["module-name"]
    given = PROMPTS | answers | {"project_slug": project.name, "package_name": package}
    choices = {prompt: answers[prompt] for prompt in ("license", "sink", "engine") if prompt in answers}
    plain = plain_project(**choices)

    assert {name.replace(f"src/{package}/", "src/plain_package/") for name in files} == plain.keys()
    for name, text in files.items():
        parse(name, text)

    assert pyproject["project"]["name"] == project.name == answers.get("project_slug", project.name)
    assert package == answers.get("package_name", package)
    assert pyproject["project"]["description"] == given["description"]
    assert pyproject["project"]["authors"] == [{"name": given["author_name"], "email": given["author_email"]}]

    tree = ast.parse(files[f"src/{package}/settings.py"])
    assert given["project_name"] in [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]

    structure, seen = read_markdown(files["README.md"])
    plain_structure, plain_seen = read_markdown(plain["README.md"])
    assert structure == plain_structure
    for prompt, text in PLAIN.items():
        plain_seen = [line.replace(text, given[prompt].strip()) for line in plain_seen]
    assert seen == plain_seen

    if "Copyright (c)" in plain.get("LICENSE", ""):
        assert f"Copyright (c) {given['author_name']}\n" in files["LICENSE"]


# Answers are checked and kept alike, wherever they come from.


def from_command_line(folder: Path, answers: dict[str, Any]) -> Path:
    return generate(folder, **answers)


def from_config_file(folder: Path, answers: dict[str, Any]) -> Path:
    return run_cookiecutter(folder, defaults=answers, no_input=True)


def from_replay(folder: Path, answers: dict[str, Any]) -> Path:
    generate(folder / "first")
    (first,) = (folder / "first" / "replay").iterdir()
    context = json.loads(first.read_text(encoding="utf-8"))
    context["cookiecutter"] |= answers
    replay = folder / "replay.json"
    replay.write_text(json.dumps(context), encoding="utf-8")
    return run_cookiecutter(folder, replay=str(replay))


def from_prompt(folder: Path, answers: dict[str, Any]) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        typed = "".join(f"{answers.get(prompt, '')}\n" for prompt in PROMPTS)
        patch.setattr(sys, "stdin", io.StringIO(typed))
        return run_cookiecutter(folder)


def from_cruft(folder: Path, answers: dict[str, Any]) -> Path:
    template = copy_template(folder / "template")
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=Template"]):
        subprocess.run([*git, *command], cwd=template, env=ENVIRONMENT | {"GIT_CONFIG_GLOBAL": os.devnull}, check=True)
    return cruft.create(
        str(template),
        output_dir=folder / "projects",
        extra_context=answers,
        no_input=True,
        default_config=True,
    )


Source = Callable[[Path, dict[str, Any]], Path]
each_source = pytest.mark.parametrize(
    "source", [from_command_line, from_config_file, from_replay, from_prompt, from_cruft]
)

NAME = 'O\'Reilly "Quoted" """ Ünï — 名 🚀 <b> & \\ #{}%'
JINJA = "cycler.__init__.__globals__.os.environ.update(pwned='1')"
CODE = [
    f"{{{{ {JINJA} }}}}",
    f"{{% if {JINJA} %}}{{% endif %}}",
    "{{ cookiecutter.update(x='pwned') }} {{ cookiecutter.none }}",
    "{{cookiecutter.project_slug}} {{cookiecutter.package_name}} {{ 1/0 }}",
    '"""); __import__("pathlib").Path("pwned").touch() #',
    "'''); __import__('pathlib').Path('pwned').touch() #",
    "`touch pwned` $(touch pwned) ; touch pwned",
]


@each_source
def test_bad_answers_leave_nothing(tmp_path: Path, source: Source) -> None:
    with pytest.raises(FailedHookException):
        source(tmp_path, {"package_name": "class", "author_email": "ada"})

    assert list(tmp_path.glob("projects/*")) == []


@pytest.mark.parametrize("source", [from_command_line, from_config_file, from_prompt, from_cruft])
def test_bad_slug_makes_no_folder(tmp_path: Path, source: Source) -> None:
    with pytest.raises(FailedHookException, match='project_slug: "a/b" must have'):
        source(tmp_path, {"project_slug": "a/b", "package_name": "ab"})

    assert not (tmp_path / "projects").exists()


@pytest.mark.parametrize(
    "answers", [{"engine": "rabbit"}, {"container": "no"}, {"description": None}, {"project_slug": "../up"}]
)
def test_hook_refuses_replayed_answers(tmp_path: Path, answers: dict[str, Any]) -> None:
    with pytest.raises(FailedHookException):
        from_replay(tmp_path, answers)

    assert list(tmp_path.glob("projects/*")) == []


@pytest.fixture
def nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails if an answer of `CODE` was executed."""
    monkeypatch.chdir(tmp_path)
    yield
    assert "pwned" not in os.environ
    assert list(tmp_path.rglob("pwned")) == []


@pytest.mark.usefixtures("nothing_is_executed")
@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("source", [from_command_line, from_config_file, from_replay, from_prompt])
def test_code_in_answers_is_kept(tmp_path: Path, source: Source, code: str) -> None:
    answers = {"project_name": code, "project_slug": "coded", "package_name": "coded"}
    answers |= {"description": code, "author_name": code}

    check_answers_are_kept(source(tmp_path, answers), answers)


@pytest.mark.usefixtures("nothing_is_executed")
def test_code_from_cruft_is_kept(tmp_path: Path) -> None:
    answers = {"project_name": CODE[0], "description": " ".join(CODE), "author_name": CODE[1]}
    project = from_cruft(tmp_path, answers)
    (project / ".cruft.json").unlink()

    check_answers_are_kept(project, answers)


def cookiecutter_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Cookiecutter as a person would, in `folder`, with a home of its own."""
    home = folder.with_name("home")
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input", *arguments],
        cwd=folder,
        env=ENVIRONMENT | {"HOME": str(home), "USERPROFILE": str(home)},
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """An empty folder to generate in."""
    desk = tmp_path / "desk"
    desk.mkdir()
    return desk


def test_command_keeps_code(desk: Path) -> None:
    result = cookiecutter_command(desk, f"description={CODE[0]}", f"author_name={CODE[-1]}")

    assert result.returncode == 0, result.stdout + result.stderr
    check_answers_are_kept(desk / "myservice", {"description": CODE[0], "author_name": CODE[-1]})
    assert list(desk.parent.rglob("pwned")) == []


def test_command_prints_one_line_for_each_bad_answer(desk: Path) -> None:
    result = cookiecutter_command(desk, "package_name=class", "author_email=ada")

    assert result.returncode == 1
    assert result.stdout + result.stderr == (
        'package_name: "class" is a Python keyword; choose another name\n'
        'author_email: "ada" must be an e-mail address, such as you@example.com\n'
    )
    assert list(desk.iterdir()) == []


def test_answers_that_are_no_text_are_refused(desk: Path) -> None:
    config = "default_context: {project_name: yes, author_name:, description: {a: b}, author_email: 7}\n"
    (desk / "team.yaml").write_text(config, "utf-8")
    result = cookiecutter_command(desk, "--config-file", "team.yaml")

    assert result.returncode == 1
    assert result.stdout + result.stderr == (
        "project_name: true must be text; put it in quotes\n"
        "description: null must be text; put it in quotes\n"
        "author_name: null must be text; put it in quotes\n"
        'author_email: "7" must be an e-mail address, such as you@example.com\n'
    )
    assert [path.name for path in desk.iterdir()] == ["team.yaml"]


# Answers that Hypothesis generates.

# Texts with a special meaning in a file that contains answers, in a program that reads the file, or on a terminal.
MEANINGFUL = [
    *r"""' " \ \n \N{DASH} {{ }} cookiecutter {# #} % ${X} $x ` $( <b> </title> &amp;""".split(),
    *"[x](y) ![ _ ~~ == None class con".split(),
    *["{% x %}", "- ", "+ ", "* ", "1. ", "2) ", "# ", "| ", ": ", "    ", '"""'],
    *["e\u0301", "\u202e", "\ufeff", "🚀", "👩‍💻", "名", "\x1b", "\n", "\u2028", "\ud800"],
]
ANY_TEXT = st.lists(st.sampled_from(MEANINGFUL) | st.characters(exclude_categories=()), max_size=30).map("".join)
FINE_TEXT = ANY_TEXT.filter(lambda text: extension.text_fault(text) is None)

any_answers = st.fixed_dictionaries(
    {}, optional={prompt: ANY_TEXT for prompt, default in PROMPTS.items() if isinstance(default, str)}
)
fine_answers = st.fixed_dictionaries(
    {
        "project_name": FINE_TEXT.filter(lambda text: len(text) <= 80),
        "project_slug": st.from_regex("[a-z][a-z0-9]{8,37}[0-9]", fullmatch=True),
        "description": FINE_TEXT,
        "author_name": FINE_TEXT,
        "author_email": st.emails().filter(lambda address: extension.email_fault(address) is None),
        **{prompt: st.sampled_from(PROMPTS[prompt]) for prompt in ("license", "sink", "engine")},
    }
)

ordinary = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
# Four parts, so that four processes can share 5,000 examples.
exhaustive = settings(ordinary, max_examples=1250)
in_parts = pytest.mark.parametrize("part", range(4))


def check_any_answers(answers: dict[str, str]) -> None:
    """Check that answers are refused and leave nothing, or are kept, and that nothing else is written."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        root = Path(scratch, "root")
        try:
            project = generate(root, **answers)
        except FailedHookException:
            event("refused")
            assert not (root / "projects").exists()
        else:
            event("generated")
            assert list((root / "projects").iterdir()) == [project]
            check_answers_are_kept(project, answers)
        assert list(Path(scratch).iterdir()) == [root]
        assert {path.name for path in root.iterdir()} <= {"config.yaml", "replay", "templates", "projects"}


def check_fine_answers(answers: dict[str, str]) -> None:
    """Check that answers are not refused, and are kept."""
    with tempfile.TemporaryDirectory() as folder:
        check_answers_are_kept(generate(Path(folder), **answers), answers)


@ordinary
@given(any_answers)
def test_any_answers_are_refused_or_kept(answers: dict[str, str]) -> None:
    check_any_answers(answers)


@ordinary
@given(fine_answers)
def test_fine_answers_are_kept(answers: dict[str, str]) -> None:
    check_fine_answers(answers)


@pytest.mark.exhaustive
@in_parts
@exhaustive
@given(answers=any_answers)
def test_any_answers_thousands_of_times(part: int, answers: dict[str, str]) -> None:  # noqa: ARG001
    check_any_answers(answers)


@pytest.mark.exhaustive
@in_parts
@exhaustive
@given(answers=fine_answers)
def test_fine_answers_thousands_of_times(part: int, answers: dict[str, str]) -> None:  # noqa: ARG001
    check_fine_answers(answers)


@settings(ordinary, max_examples=300)
@given(FINE_TEXT)
@example("# ~~a~~ **b** _c_ `d` [e](f) <g> &amp; | $h$ \\n")
@example("1. '\"")
def test_filters_keep_any_text(text: str) -> None:
    quoted = extension.quoted(text)

    assert json.loads(quoted) == text
    assert yaml.safe_load(quoted) == text
    assert tomllib.loads(f"text = {quoted}") == {"text": text}
    assert ast.literal_eval(extension.python_string(text)) == text
    assert read_markdown(extension.markdown(text))[1] == [text.strip()]


def test_no_expression_can_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates pass prompts only to filters that accept any text, so rendering cannot fail half-way."""
    context = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(TEMPLATE)
    environment = create_env_with_context({"cookiecutter": context})
    (folder,) = TEMPLATE.glob("*cookiecutter.project_slug*")
    environment.loader = FileSystemLoader(folder)
    paths = environment.list_templates()
    seen: set[str] = set()

    for source in [*((folder / path).read_text(encoding="utf-8") for path in paths), folder.name, *paths]:
        tree = environment.parse(source)
        assert meta.find_undeclared_variables(tree) <= {"cookiecutter", "range"}
        seen |= {attribute.attr for attribute in tree.find_all(nodes.Getattr)}
        assert {filter_.name for filter_ in tree.find_all(nodes.Filter)} <= {
            *("markdown", "python_string", "quoted"),
            "int",  # of a choice
        }
        assert {call.node.name for call in tree.find_all(nodes.Call)} <= {"range"}
        assert not list(tree.find_all((nodes.BinExpr, nodes.Include, nodes.Extends, nodes.Import)))
    assert {"project_name", "sink"} <= seen <= PROMPTS.keys()


# Names change where the formatter breaks lines and how it sorts imports.

VARIANTS = list(itertools.product(PROMPTS["sink"], PROMPTS["engine"]))
# Names of all lengths, and those that sort before and after every import or take the most room.
NAMES = [
    *(("project_slug", slug) for slug in ["a", "zzz", "a" * 40, "x1-2", "m" * 10, "m" * 20, "m" * 30, "z" * 39 + "9"]),
    *(("package_name", package) for package in ["A", "_z", "名" * 13, "Zzz", "ö" * 20]),
]


def test_any_name_is_formatted(tmp_path: Path) -> None:
    for (sink, engine), (prompt, name) in zip(VARIANTS, itertools.cycle(NAMES), strict=False):
        generate(tmp_path / sink / engine, sink=sink, engine=engine, **{prompt: name})
    for number, name in enumerate([NAME, "x" * 80, '"', "'", "\\", "名" * 80, *CODE[:2]]):
        generate(tmp_path / str(number), project_name=name, project_slug="any", description=name, author_name=name)

    check_ruff(tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("prompt", "name"), NAMES)
def test_each_name_is_formatted_in_each_variant(tmp_path: Path, prompt: str, name: str) -> None:
    for sink, engine in VARIANTS:
        generate(tmp_path / sink / engine, sink=sink, engine=engine, **{prompt: name})

    check_ruff(tmp_path)


def test_project_with_an_odd_name_works(bake: Bake) -> None:
    project = Installed(bake(project_name=NAME, project_slug="z9-9", description=NAME), "file", "background")
    ask = (
        "import json; from fastapi.testclient import TestClient; "
        "from z9_9.main import app; client = TestClient(app); "
        "print(json.dumps([client.get('/docs').text, client.get('/openapi.json').json()['info']]))"
    )

    project.run("pytest", "--no-cov")
    page, info = json.loads(project.run("python", "-c", ask))
    assert f"<title>{NAME}</title>" in html.unescape(page)
    assert (info["title"], info["summary"]) == (NAME, NAME)


ODD_ANSWERS = [{"project_slug": "a"}, {"project_slug": "a" * 40}, {"package_name": "Größe"}, {"project_name": NAME}]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("variant", "answers"), list(zip(VARIANTS, itertools.cycle(ODD_ANSWERS), strict=False)))
def test_tests_pass_under_any_name(bake: Bake, variant: tuple[str, str], answers: dict[str, str]) -> None:
    sink, engine = variant
    Installed(bake(sink=sink, engine=engine, **answers), sink, engine).run("pytest", "--no-cov")
