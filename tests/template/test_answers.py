"""Whatever is answered: a clean refusal, or a project that holds the answer unchanged."""

import ast
import contextlib
import functools
import html
import json
import runpy
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import yaml
from checks import check_ruff, parse, texts
from conftest import ENVIRONMENT, PROMPTS, TEMPLATE, Bake, Installed, copy_template, generate
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from cookiecutter.utils import create_env_with_context
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jinja2 import meta, nodes
from markdown_it import MarkdownIt
from test_hooks import pre_gen

NAME = 'O\'Reilly "Quoted" """ Ünï — 名 🚀 <b> & \\ #{}%'
# Slugs that sort before and after every import, of all lengths; package names that take the most room.
SLUGS = ["a", "aaa", "zzz", "x1-2", "m" * 10, "m" * 20, "m" * 30, "a" * 40, "z" * 39 + "9"]
PACKAGES = ["A", "_z", "Zzz", "ö" * 20, "名" * 13]
CODE = [
    '"""); __import__("pathlib").Path("pwned").touch() #',
    "'''); __import__('pathlib').Path('pwned').touch() #",
    "{{ cycler.__init__.__globals__.os.mkdir('pwned') }}",
    "{% if cycler.__init__.__globals__.os.mkdir('pwned') %}{% endif %}",
    "{{ cookiecutter.update(x='pwned') }} {{ cookiecutter.none }}",
    "`touch pwned` $(touch pwned) ; touch pwned",
]

# What means something to a file that answers go into, to what reads that file, or to a terminal.
MEANINGFUL = [
    *r"""' " \ \n \N{DASH} {{ }} cookiecutter {# #} % ${X} $x ` $( <b> </title> &amp;""".split(),
    *"[x](y) ![ _ ~~ == None class con".split(),
    *["{% x %}", "- ", "+ ", "* ", "1. ", "2) ", "# ", "| ", ": ", "    ", '"""'],
    *["e\u0301", "\u202e", "\ufeff", "🚀", "👩‍💻", "名", "\x1b", "\n", "\u2028", "\ud800"],
]
CHARACTER = st.characters(exclude_categories=())
ANY_TEXT = st.lists(st.sampled_from(MEANINGFUL) | CHARACTER, max_size=30).map("".join)
FINE_TEXT = ANY_TEXT.filter(lambda text: pre_gen.text_fault(text) is None)

ordinary = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
# Four parts, so that four processes can share the 5,000 examples.
exhaustive = settings(ordinary, max_examples=1250)
in_parts = pytest.mark.parametrize("part", range(4))

any_answers = st.fixed_dictionaries(
    {}, optional={prompt: ANY_TEXT for prompt, default in PROMPTS.items() if isinstance(default, str)}
)
fine_answers = st.fixed_dictionaries(
    {
        "project_name": FINE_TEXT.filter(lambda text: len(text) <= 80),
        "project_slug": st.from_regex("[a-z][a-z0-9]{8,37}[0-9]", fullmatch=True),
        "description": FINE_TEXT,
        "author_name": FINE_TEXT,
        "author_email": st.emails().filter(lambda address: pre_gen.email_fault(address) is None),
        **{prompt: st.sampled_from(PROMPTS[prompt]) for prompt in ("license", "sink", "engine")},
    }
)


@functools.cache
def plain_project(**choices: str) -> dict[str, str]:
    """The files of a project with plain answers."""
    with tempfile.TemporaryDirectory() as folder:
        return texts(generate(Path(folder), **choices))


def read_markdown(text: str) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """What Markdown makes of a text: its structure, and what a reader sees of each paragraph, heading or cell."""
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


def check_answers_are_kept(project: Path, answers: dict[str, str]) -> None:
    """The project holds the files that any other would, and each says what was answered to those who read it."""
    files = texts(project)
    given = PROMPTS | answers
    plain = plain_project(**{prompt: answers[prompt] for prompt in ("license", "sink", "engine") if prompt in answers})
    pyproject = tomllib.loads(files["pyproject.toml"])
    package = pyproject["tool"]["uv"]["build-backend"]["module-name"]

    assert {name.replace(f"src/{package}/", "src/myservice/") for name in files} == plain.keys()
    for name, text in files.items():
        parse(name, text)
    assert pyproject["project"]["name"] == project.name == answers.get("project_slug", project.name)
    assert package == answers.get("package_name", package)
    assert pyproject["project"]["description"] == given["description"]
    assert pyproject["project"]["authors"] == [{"name": given["author_name"], "email": given["author_email"]}]
    constants = [
        node for node in ast.walk(ast.parse(files[f"src/{package}/settings.py"])) if isinstance(node, ast.Constant)
    ]
    assert given["project_name"] in [constant.value for constant in constants]
    if "Copyright (c)" in plain.get("LICENSE", ""):
        assert f"Copyright (c) {given['author_name']}\n" in files["LICENSE"]
    structure, seen = read_markdown(files["README.md"])
    assert structure == read_markdown(plain["README.md"])[0]
    assert seen[:2] == [given["project_name"].strip(), given["description"].strip()]
    assert seen.count(given["project_name"].strip()) >= 2
    assert f"[{given['project_name'].strip()}] started" in seen


def check_any_answers(answers: dict[str, str]) -> None:
    """The answers are refused and nothing is left, or they are kept; whichever, nothing else is touched."""
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
    """The answers are not refused, and they are kept."""
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


extension = runpy.run_path(str(TEMPLATE / "local_extensions.py"))


@settings(ordinary, max_examples=1000)
@given(FINE_TEXT)
def test_filters_keep_any_text(text: str) -> None:
    quoted = extension["quoted"](text)

    assert json.loads(quoted) == text
    assert yaml.safe_load(quoted) == text
    assert tomllib.loads(f"text = {quoted}") == {"text": text}
    assert ast.literal_eval(extension["python_string"](text)) == text
    assert read_markdown(extension["markdown"](text))[1] == [text.strip()]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [*(("project_slug", slug) for slug in SLUGS), *(("package_name", package) for package in PACKAGES)],
)
def test_names_of_code_do_not_change_formatting(tmp_path: Path, prompt: str, name: str) -> None:
    for sink in PROMPTS["sink"]:
        for engine in PROMPTS["engine"]:
            generate(tmp_path / sink / engine, sink=sink, engine=engine, **{prompt: name})

    check_ruff(tmp_path)


@pytest.mark.parametrize("name", [NAME, "x" * 80, '"', "'", "\\", "名" * 80, *CODE])
def test_names_do_not_change_formatting(bake: Bake, name: str) -> None:
    check_ruff(bake(project_name=name, project_slug="any", description=name, author_name=name))


@pytest.mark.parametrize(
    ("sink", "engine", "answers"),
    [
        ("file", "background", {"project_slug": "z9-9", "project_name": NAME, "description": NAME}),
        ("stdout", "rq", {"project_slug": "zzz", "project_name": NAME, "author_name": NAME}),
        pytest.param("stdout", "background", {"project_slug": "a"}, marks=pytest.mark.exhaustive),
        pytest.param("file", "celery", {"project_slug": "aaa"}, marks=pytest.mark.exhaustive),
        ("stdout", "celery", {"project_slug": "a" * 40}),
        ("file", "rq", {"package_name": "Größe"}),
    ],
)
def test_tests_pass_under_any_name(bake: Bake, sink: str, engine: str, answers: dict[str, str]) -> None:
    Installed(bake(sink=sink, engine=engine, **answers), sink, engine).run("pytest", "--no-cov")


def test_docs_show_the_name(bake: Bake) -> None:
    project = Installed(bake(project_name=NAME, description=NAME), "file", "background")
    (package,) = (path.name for path in (project.path / "src").iterdir())
    ask = (
        "import json; from fastapi.testclient import TestClient; "
        f"from {package}.main import app; client = TestClient(app); "
        "print(json.dumps([client.get('/docs').text, client.get('/openapi.json').json()['info']]))"
    )
    page, info = json.loads(project.run("python", "-c", ask))

    assert f"<title>{NAME} - Swagger UI</title>" in html.unescape(page)
    assert (info["title"], info["summary"]) == (NAME, NAME)


def cookiecutter_command(
    folder: Path, *arguments: str, typed: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Cookiecutter as a person would, in `folder`, with a home of its own."""
    home = folder.with_name("home")
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(TEMPLATE), *arguments],
        cwd=folder,
        env=ENVIRONMENT | {"HOME": str(home), "USERPROFILE": str(home)} | environment,
        input=typed,
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """An empty folder to generate in."""
    desk = tmp_path / "desk"
    desk.mkdir()
    return desk


@pytest.mark.parametrize("code", CODE)
def test_answers_are_never_executed(desk: Path, code: str) -> None:
    answers = {"project_name": code, "description": code, "author_name": code}
    given = [f"{prompt}={answer}" for prompt, answer in answers.items()]
    result = cookiecutter_command(desk, "--no-input", "project_slug=coded", *given)
    replay = cookiecutter_command(desk, "--replay", "--output-dir", "replayed")

    assert result.returncode == replay.returncode == 0, result.stdout + replay.stdout
    check_answers_are_kept(desk / "coded", answers)
    assert texts(desk / "replayed" / "coded") == texts(desk / "coded")
    assert list(desk.parent.rglob("pwned")) == []


def test_names_of_folders_open_no_door(desk: Path) -> None:
    """Paths of the template hold them, and are rendered; in an answer, nothing else is."""
    answer = "{{cookiecutter.project_slug}} {{ cycler.__init__.__globals__.os.mkdir('pwned') }}"
    result = cookiecutter_command(desk, "--no-input", f"description={answer}")
    project = tomllib.loads((desk / "myservice" / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert result.returncode == 0
    assert project["description"] == answer.replace("{{cookiecutter.project_slug}}", "myservice")
    assert list(desk.parent.rglob("pwned")) == []


@pytest.mark.parametrize("typed", [NAME, *CODE])
def test_what_is_typed_is_kept(desk: Path, typed: str) -> None:
    lines = [typed, "typed-answers", "", typed, typed, *[""] * (len(PROMPTS) - 5)]
    result = cookiecutter_command(desk, typed="\n".join(lines) + "\n")

    assert result.returncode == 0, result.stdout + result.stderr
    check_answers_are_kept(desk / "typed-answers", {"project_name": typed, "description": typed, "author_name": typed})
    assert list(desk.parent.rglob("pwned")) == []


@pytest.mark.parametrize("package", ["class", "pytest", "fastapi", "json", "con", "2fast", ""])
def test_bad_package_is_refused_with_one_line(desk: Path, package: str) -> None:
    result = cookiecutter_command(desk, "--no-input", f"package_name={package}")

    assert result.returncode == 1
    assert (result.stdout + result.stderr).count("\n") == 1
    assert f'package_name: "{package}" ' in result.stdout + result.stderr
    assert list(desk.iterdir()) == []


def test_answers_that_are_no_text_are_refused(desk: Path) -> None:
    (desk / "team.yaml").write_text("default_context: {project_name: yes, author_name:, description: 7}\n", "utf-8")
    result = cookiecutter_command(desk, "--no-input", "--config-file", "team.yaml")

    assert result.returncode == 1
    assert result.stdout + result.stderr == (
        "project_name: true must be a text; quote it if it is one\n"
        "author_name: null must be a text; quote it if it is one\n"
    )
    assert [path.name for path in desk.iterdir()] == ["team.yaml"]


@pytest.mark.parametrize("option", [[], ["--overwrite-if-exists"], ["--skip-if-file-exists", "--overwrite-if-exists"]])
def test_folder_that_exists_is_left_alone(desk: Path, option: list[str]) -> None:
    kept = desk / "myservice" / "data.2024.csv"
    kept.parent.mkdir()
    kept.write_text("kept", encoding="utf-8")
    result = cookiecutter_command(desk, "--no-input", *option)

    assert result.returncode == 1
    assert "myservice" in result.stdout + result.stderr
    assert texts(desk) == {"myservice/data.2024.csv": "kept"}


@pytest.mark.parametrize("hook", ["pre_gen_project", "post_gen_project"])
def test_failing_hook_leaves_nothing(tmp_path: Path, hook: str) -> None:
    template = copy_template(tmp_path / "template")
    script = template / "hooks" / f"{hook}.py"
    script.write_text(
        script.read_text(encoding="utf-8").replace("def main() -> int:", "def main() -> int:\n    1 / 0"),
        encoding="utf-8",
    )
    with pytest.raises(FailedHookException):
        cookiecutter(str(template), no_input=True, output_dir=str(tmp_path / "projects"), default_config=True)

    assert list((tmp_path / "projects").iterdir()) == []


@pytest.mark.parametrize(("engine", "needs_redis"), [("background", False), ("celery", True), ("rq", True)])
def test_what_to_do_next_is_told(desk: Path, engine: str, needs_redis: bool) -> None:
    said = cookiecutter_command(desk, "--no-input", f"engine={engine}", PWD=str(desk)).stdout

    assert "uv run --directory myservice fastapi dev\n" in said
    assert ("Redis" in said) == needs_redis


def test_message_that_cannot_be_shown_fails_nothing(desk: Path) -> None:
    (desk / "名").mkdir()
    result = cookiecutter_command(desk, "--no-input", "--output-dir", "名", PYTHONIOENCODING="ascii")

    assert result.returncode == 0
    assert (desk / "名" / "myservice" / "pyproject.toml").is_file()


def test_no_expression_can_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files name prompts and hand them to filters that take any text: nothing that could fail half-way."""
    context = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(TEMPLATE)
    environment = create_env_with_context({"cookiecutter": context})
    (folder,) = TEMPLATE.glob("*cookiecutter.project_slug*")
    files = [path for path in folder.rglob("*") if path.is_file()]
    sources = [path.read_text(encoding="utf-8") for path in files]
    seen: set[str] = set()

    for source in [*sources, *(str(path.relative_to(TEMPLATE)) for path in files)]:
        tree = environment.parse(source, name="file")
        assert meta.find_undeclared_variables(tree) <= {"cookiecutter", "range"}
        seen |= {attribute.attr for attribute in tree.find_all(nodes.Getattr)}
        assert {filter_.name for filter_ in tree.find_all(nodes.Filter)} <= {
            *("markdown", "python_string", "quoted"),
            "int",  # of a choice
        }
        assert {call.node.name for call in tree.find_all(nodes.Call)} <= {"range"}
        assert not list(tree.find_all((nodes.BinExpr, nodes.Include, nodes.Extends, nodes.Import)))
    assert {"project_name", "sink"} <= seen <= PROMPTS.keys()
