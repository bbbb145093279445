"""Filters for the template's files and hooks: they write answers, check them, and name the chosen variants."""

import json
import keyword
import re
import sys
import tomllib
import unicodedata
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment, FileSystemLoader
from jinja2.ext import Extension

TEMPLATE = Path(__file__).parent
SERVICE = TEMPLATE / "{{cookiecutter.project_slug}}"
PROMPTS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
CHOICES = {
    prompt: [True, False] if isinstance(default, bool) else default
    for prompt, default in PROMPTS.items()
    if isinstance(default, bool | list) and not prompt.startswith("_")
}
# The template's own texts that Cookiecutter renders before it opens the service's folder.
OWN_TEXTS = {
    SERVICE.name,
    *(default for default in PROMPTS.values() if isinstance(default, str)),
    *(hook.read_text(encoding="utf-8") for hook in (TEMPLATE / "hooks").glob("*.py")),
}

# Keywords and modules of Python versions other than the running one: https://docs.python.org/3/whatsnew/
OTHER_KEYWORDS = {"type"}
OTHER_MODULES = """
    aifc annotationlib asynchat asyncore audioop cgi cgitb chunk compression crypt distutils imghdr imp lib2to3 mailcap
    msilib nis nntplib ossaudiodev pipes smtpd sndhdr sitecustomize spwd sunau telnetlib test usercustomize uu xdrlib
"""
# Lower case, because some file systems do not distinguish `JSON` from `json`.
STANDARD_MODULES = {*OTHER_MODULES.split(), *(module.lower() for module in sys.stdlib_module_names)}
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}

# Characters that TOML, YAML or one line cannot hold: controls, separators, surrogates and noncharacters. Also overrides
# of the text direction, with which code looks different from what Python reads: https://trojansource.codes
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# RFC 5322's atoms and RFC 1035's labels, with letters of any script.
ATOM = r"""[^\s@<>()\[\],;:\\".]+"""
LABEL = r"[^\W_](?:[^\W_]|-){0,62}(?<!-)"
EMAIL = re.compile(rf"(?=.{{1,64}}@){ATOM}(?:\.{ATOM})*@{LABEL}(?:\.{LABEL})+")


def quoted(text: str) -> str:
    """Return `text` as a JSON string, which TOML and YAML read too."""
    return json.dumps(text, ensure_ascii=False)


def python_string(text: str) -> str:
    """Return `text` as a Python string, in the quotes that `ruff format` chooses: those that need fewer escapes."""
    text = text.replace("\\", "\\\\")
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + text.replace(quote, "\\" + quote) + quote


def markdown(text: str) -> str:
    """Return `text` escaped for a paragraph, heading or table cell of Markdown."""
    text = re.sub(r"([\\`*_\[\]<>#|&~$])", r"\\\1", text.strip())
    # A paragraph that starts with one of these would become a list.
    return re.sub(r"^(\d*)([-+.)])", r"\1\\\2", text)


def chosen_variants(answers: Mapping[str, Any]) -> list[str]:
    """Return the parts of file names that mark chosen variants: the value of a choice, the prompt of a true boolean."""
    return [prompt if answers[prompt] is True else answers[prompt] for prompt in CHOICES if answers[prompt]]


def normalized(name: str) -> str:
    """Return the name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def dependencies(answers: Mapping[str, Any]) -> set[str]:
    """Return the normalized names of what the service's `pyproject.toml` depends on, its development tools included."""
    environment = Environment(  # noqa: S701 - TOML is not HTML
        loader=FileSystemLoader(SERVICE), extensions=[Answers], **PROMPTS["_jinja2_env_vars"]
    )
    # Free texts are not checked yet, and no dependency depends on one.
    options = {prompt: answers[prompt] if prompt in CHOICES else "" for prompt in PROMPTS}
    project = tomllib.loads(environment.get_template("pyproject.toml").render(cookiecutter=options))
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    return {normalized(re.split(r"[^\w.-]", requirement)[0]) for group in groups for requirement in group}


def text_fault(text: str, longest: int | None = None) -> str | None:
    """Return why `text` cannot be used, or None. `longest` is in characters."""
    if UNPRINTABLE.search(text):
        return "must be printable; remove control characters, line separators and bidirectional overrides"
    # Whitespace, and marks that cannot be seen.
    if all(unicodedata.category(character)[0] in "CZ" for character in text):
        return "must not be empty"
    if longest and len(text) > longest:
        return f"must have at most {longest} characters, not {len(text)}"
    return None


def email_fault(address: str) -> str | None:
    """Return why `address` cannot be used, or None."""
    if not (EMAIL.fullmatch(address) and address.isprintable() and len(address) <= 254):
        return "must be an e-mail address, such as you@example.com"
    return None


def slug_fault(slug: str, dependencies: set[str]) -> str | None:
    """Return why `slug` cannot name the folder and the distribution, or None."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", slug):
        return "must have 1 to 40 characters of a-z, 0-9 and -, start with a letter and not end with -"
    if normalized(slug) in dependencies:
        return "is the name of a dependency of the service; choose another name"
    if slug in DEVICES:
        return "is the name of a device on Windows; choose another name"
    return None


def package_fault(name: str, dependencies: set[str]) -> str | None:
    """Return why the service cannot be imported as `name`, or None."""
    if not name.isidentifier():
        return "must be a Python identifier: letters, digits and _, not starting with a digit"
    # https://docs.python.org/3/reference/lexical_analysis.html#identifiers
    if name != (read := unicodedata.normalize("NFKC", name)):
        return f"must be written as Python reads it: {quoted(read)}"
    if len(name.encode()) > 40:
        return f"must have at most 40 bytes in UTF-8, not {len(name.encode())}"
    if name.startswith("__"):
        return "must not start with __, which Python reserves"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in OTHER_KEYWORDS:
        return "is a Python keyword; choose another name"
    taken = {
        # python-json-logger is imported as pythonjsonlogger, and python-dotenv as dotenv.
        "a dependency of the service": {
            form.replace("-", sign)
            for name in dependencies
            for form in (name, name.removeprefix("python-"))
            for sign in ("_", "")
        },
        "a module of Python's standard library": STANDARD_MODULES,
        # pytest imports these as top-level modules, in place of a package of the same name.
        "a module of the service's tests": {path.name.split(".")[0] for path in (SERVICE / "tests").iterdir()},
        "the folder of the service's tests": {"tests"},
        "a device on Windows": DEVICES,
    }
    for owner, names in taken.items():
        if name.lower() in names:
            return f"is the name of {owner}; choose another name"
    return None


def choice_faults(answers: Mapping[str, Any]) -> list[str]:
    """Return a line for each choice that does not exist: Cookiecutter does not check those that are replayed."""
    faults = []
    for prompt, choices in CHOICES.items():
        # Compared as JSON, because Python takes 1 for True.
        answer, allowed = json.dumps(answers.get(prompt)), [json.dumps(choice) for choice in choices]
        if answer not in allowed:
            faults.append(f"{prompt}: {answer} must be one of {', '.join(allowed)}")
    return faults


def answer_faults(answers: Mapping[str, Any]) -> list[str]:
    """Return a line for each answer that cannot be used: its prompt, its value, and what to change."""
    if faults := choice_faults(answers):
        # Which names are taken depends on the choices.
        return faults
    taken = dependencies(answers)
    checks = {
        "project_name": partial(text_fault, longest=80),
        "project_slug": partial(slug_fault, dependencies=taken),
        "package_name": partial(package_fault, dependencies=taken),
        "description": text_fault,
        "author_name": text_fault,
        "author_email": email_fault,
    }
    for prompt, check in checks.items():
        answer = answers.get(prompt)
        # In a config file, `yes` is a boolean, and no value at all is null.
        fault = check(answer) if isinstance(answer, str) else "must be text; put it in quotes"
        if fault:
            faults.append(f"{prompt}: {json.dumps(answer)} {fault}")
    return faults


def check_answers(answers: Mapping[str, Any]) -> str:
    """Return an empty text; raises FailedHookException with a line for each answer that cannot be used.

    Runs at the last prompt: the pre-generation hook comes too late for a slug such as `a/b`, which makes two folders.
    """
    if faults := answer_faults(answers):
        raise FailedHookException("\n".join(faults))
    return ""


class Answers(Extension):
    """Adds the filters above, and keeps answers from being rendered."""

    def __init__(self, environment: Environment) -> None:
        """Add the filters to `environment`."""
        super().__init__(environment)
        for function in (quoted, python_string, markdown, chosen_variants, answer_faults, check_answers):
            environment.filters[function.__name__] = function
        # cruft renders two versions of the template in one process: each must import its own module.
        sys.modules.pop(__name__, None)

    def preprocess(self, source: str, _name: str | None, _filename: str | None = None) -> str:
        """Return `source`. If it is an answer, return an expression that evaluates to its text instead.

        Cookiecutter renders answers from the command line, a config file or cruft, and so would run code in them.
        It does so before it sets a loader for the service's folder. OWN_TEXTS are the other texts that it renders then.
        """
        if self.environment.loader is None and source not in OWN_TEXTS:
            return "{{ " + ascii(source) + " }}"
        return source
