"""Refuses answers that would give a broken project, before any file is written.

Cookiecutter renders this file and runs it in the project's empty folder; when it exits with a status other than 0,
the folder goes again. Only the standard library is there for certain.
"""

import json
import keyword
import re
import sys

# Answers arrive as JSON in a raw string: valid Python also before rendering, and nothing in them is ever executed.
ANSWERS = r"""
{{ cookiecutter | jsonify }}
"""

# What a generated service installs, its tools included: neither the project nor its package can carry such a name.
DISTRIBUTIONS = """
    annotated-doc annotated-types anyio ast-serialize click colorama coverage dnspython email-validator fastapi
    fastapi-cli h11 httpcore2 httptools httpx2 httpx2-jsfetch idna iniconfig librt markdown-it-py mdurl mypy
    mypy-extensions opentelemetry-api packaging pathspec pluggy pydantic pydantic-core pydantic-settings pygments
    pytest pytest-cov python-dotenv pyyaml rich rich-toolkit ruff shellingham starlette truststore typer
    typing-extensions typing-inspection uvicorn uvloop watchfiles websockets
"""
DISTRIBUTIONS_OF_ENGINE = {
    "background": "",
    "celery": """
        amqp async-timeout billiard celery celery-types click-didyoumean click-plugins click-repl fakeredis flower
        humanize kombu prometheus-client prompt-toolkit python-dateutil pytz redis six sortedcontainers tornado tzdata
        tzlocal vine wcwidth
    """,
    "rq": """
        arrow async-timeout blinker croniter fakeredis flask itsdangerous jinja2 markupsafe python-dateutil redis
        redis-sentinel-url rq rq-dashboard six sortedcontainers tzdata werkzeug
    """,
}
# The modules among them whose names are others than their distributions'.
MODULES = "_pytest _yaml dateutil dns dotenv markdown_it mypyc opentelemetry py yaml"
# Windows keeps these for devices, whatever their case: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
DEVICES = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)})

# Control characters, line and paragraph separators, surrogates and noncharacters: what TOML, YAML or a line of text
# cannot carry.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr((plane << 16) + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
EMAIL = re.compile(r"""[^\s@<>()\[\],;:\\"]+@[^\s@<>()\[\],;:\\".]+(\.[^\s@<>()\[\],;:\\".]+)+""")


def text_fault(value: str, longest: int | None = None) -> str | None:
    """What is wrong with a free text of at most `longest` characters, or None."""
    if not value.strip():
        return "must not be empty"
    if UNPRINTABLE.search(value):
        return "must hold printable characters only: no control characters, no line separators"
    if longest and len(value) > longest:
        return f"must have at most {longest} characters, and has {len(value)}"
    return None


def distributions(engine: str) -> set[str]:
    """The distributions that a service with this engine installs."""
    return {*DISTRIBUTIONS.split(), *DISTRIBUTIONS_OF_ENGINE[engine].split()}


def slug_fault(slug: str, engine: str) -> str | None:
    """What is wrong with the name of the folder and the distribution, or None."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", slug):
        return "must have 1 to 40 of a-z, 0-9 and -, start with a letter and not end with -"
    if slug in distributions(engine):
        return "is the name of a package that the service depends on"
    if slug in DEVICES:
        return "is the name of a device on Windows"
    return None


def package_fault(name: str, engine: str) -> str | None:
    """What is wrong with the name to import the service by, or None."""
    if not name.isidentifier():
        return "must be a Python identifier: letters, digits and _, no digit first"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "is a keyword of Python"
    # Lower case, because some file systems do not tell `JSON` from `json`.
    if name.lower() in {"test", *(module.lower() for module in sys.stdlib_module_names)}:
        return "is a module of Python's standard library"
    if name.lower() in {*MODULES.split(), *(name.replace("-", "_") for name in distributions(engine))}:
        return "is the name of a package that the service depends on"
    if name.lower() in {"tests", "conftest"}:
        return "is what pytest imports the tests by"
    if name.lower() in DEVICES:
        return "is the name of a device on Windows"
    return None


def email_fault(address: str) -> str | None:
    """What is wrong with an e-mail address, or None."""
    fault = text_fault(address, longest=254)
    if fault is None and not EMAIL.fullmatch(address):
        return "must be an e-mail address, such as you@example.com"
    return fault


def faults(answers: dict[str, str]) -> list[str]:
    """One line for each answer that cannot be used: which prompt, what was given, what is allowed."""
    checks = {
        "project_name": text_fault(answers["project_name"], longest=80),
        "project_slug": slug_fault(answers["project_slug"], answers["engine"]),
        "package_name": package_fault(answers["package_name"], answers["engine"]),
        "description": text_fault(answers["description"]),
        "author_name": text_fault(answers["author_name"]),
        "author_email": email_fault(answers["author_email"]),
    }
    return [f"{prompt}: {json.dumps(answers[prompt])} {fault}" for prompt, fault in checks.items() if fault]


def main() -> int:
    """Print every fault to standard error; returns 1 if there is one, else 0."""
    found = faults(json.loads(ANSWERS))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
