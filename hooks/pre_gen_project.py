"""Refuses answers that would give a broken project, before any file is written.

Cookiecutter renders this file and runs it in the project's empty folder; when it exits with a status other than 0,
the folder goes again. Only the standard library is there for certain.
"""

import json
import keyword
import os
import re
import sys
import unicodedata
from functools import partial

# Answers arrive as JSON in a raw string: valid Python also before rendering, and nothing in them is ever executed.
ANSWERS = r"""
{{ cookiecutter | jsonify }}
"""

# Cookiecutter checks choices that are made at a prompt or on the command line, but not those that are replayed.
CHOICES = {
    "license": ["MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary"],
    "python_version": ["3.11", "3.12", "3.13", "3.14"],
    "sink": ["file", "stdout"],
    "engine": ["background", "celery", "rq"],
    "container": [True, False],
    "ci": ["github", "gitlab", "none"],
}

# What a generated service installs, its tools included: neither the project nor its package can carry such a name.
DISTRIBUTIONS = """
    annotated-doc annotated-types anyio asgi-correlation-id ast-serialize certifi cfgv charset-normalizer click
    colorama coverage distlib dnspython email-validator fastapi fastapi-cli fastapi-offline filelock
    googleapis-common-protos h11 httpcore2 httptools httpx2 httpx2-jsfetch identify idna iniconfig librt
    markdown-it-py mdurl mypy mypy-extensions nodeenv opentelemetry-api opentelemetry-exporter-http-transport
    opentelemetry-exporter-otlp-common opentelemetry-exporter-otlp-proto-common
    opentelemetry-exporter-otlp-proto-http opentelemetry-proto opentelemetry-sdk opentelemetry-semantic-conventions
    packaging pathspec platformdirs pluggy poethepoet pre-commit pre-commit-hooks protobuf pydantic pydantic-core
    pydantic-settings pygments pytest pytest-cov python-discovery python-dotenv python-json-logger pyyaml requests
    rich rich-toolkit ruamel-yaml ruff shellingham starlette truststore typer typing-extensions typing-inspection
    urllib3 uvicorn uvloop virtualenv watchfiles websockets
"""
DISTRIBUTIONS_OF_ENGINE = {
    "background": "stamina tenacity",
    "celery": """
        amqp async-timeout billiard celery celery-types click-didyoumean click-plugins click-repl fakeredis flower
        hiredis humanize kombu prometheus-client prompt-toolkit python-dateutil pytz redis six sortedcontainers tornado
        tzdata tzlocal vine wcwidth
    """,
    "rq": """
        arrow async-timeout blinker croniter fakeredis flask hiredis itsdangerous jinja2 markupsafe python-dateutil
        redis redis-sentinel-url rq rq-dashboard six sortedcontainers tzdata werkzeug
    """,
}
# The modules among them whose names are others than their distributions'.
MODULES = "_pytest _yaml dateutil dns dotenv google markdown_it mypyc opentelemetry py pythonjsonlogger ruamel yaml"
# The modules of a service's tests, which find each other by these names.
TEST_MODULES = """
    clients conftest test_health test_logs test_main test_routes test_runner test_settings test_sink
    test_tracing test_worker tests
"""
# What is a keyword, or a module of the standard library, in some of the Pythons that a service may run on, but perhaps
# not in the one that runs this: https://docs.python.org/3/whatsnew/
KEYWORDS = "type"
STANDARD_MODULES = """
    aifc annotationlib asynchat asyncore audioop cgi cgitb chunk compression crypt distutils imghdr imp lib2to3 mailcap
    msilib nis nntplib ossaudiodev pipes smtpd sndhdr sitecustomize spwd sunau telnetlib test usercustomize uu xdrlib
"""
# Windows keeps these for devices, whatever their case: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
DEVICES = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)})

# Control characters, line and paragraph separators, surrogates and noncharacters, which TOML, YAML or a line of text
# cannot carry; and what turns text around, so that people read other code than Python does: https://trojansource.codes
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr((plane << 16) + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
# An atom and a label, with letters of any script: https://www.rfc-editor.org/rfc/rfc5322#section-3.2.3 and rfc1035
ATOM = r"""[^\s@<>()\[\],;:\\".]+"""
LABEL = r"[^\W_](?:[^\W_]|-){0,62}(?<!-)"
EMAIL = re.compile(r"(?=.{1,64}@)" + rf"{ATOM}(?:\.{ATOM})*@{LABEL}(?:\.{LABEL})+")


def text_fault(value: str, longest: int | None = None) -> str | None:
    """What is wrong with a free text of at most `longest` characters, or None."""
    if UNPRINTABLE.search(value):
        return "must hold printable characters only: no control characters, no line separators"
    # Spaces, and marks that cannot be seen.
    if all(unicodedata.category(character)[0] in "CZ" for character in value):
        return "must not be empty"
    if longest and len(value) > longest:
        return f"must have at most {longest} characters, and has {len(value)}"
    return None


def distributions(engine: str) -> set[str]:
    """The distributions that a service with this engine installs."""
    return {*DISTRIBUTIONS.split(), *DISTRIBUTIONS_OF_ENGINE.get(engine, "").split()}


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
    # https://docs.python.org/3/reference/lexical_analysis.html#identifiers
    if name != (read := unicodedata.normalize("NFKC", name)):
        return f"must be written as Python reads it: {json.dumps(read, ensure_ascii=False)}"
    if len(name.encode()) > 40:
        return f"must take at most 40 bytes, and takes {len(name.encode())}"
    if name.startswith("__"):
        return "must not start with __, which Python keeps for itself"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in KEYWORDS.split():
        return "is a keyword of Python"
    # Lower case, because some file systems do not tell `JSON` from `json`.
    if name.lower() in {*STANDARD_MODULES.split(), *(module.lower() for module in sys.stdlib_module_names)}:
        return "is a module of Python's standard library"
    if name.lower() in {*MODULES.split(), *(name.replace("-", "_") for name in distributions(engine))}:
        return "is the name of a package that the service depends on"
    if name.lower() in TEST_MODULES.split():
        return "is the name of a module of the service's tests"
    if name.lower() in DEVICES:
        return "is the name of a device on Windows"
    return None


def email_fault(address: str) -> str | None:
    """What is wrong with an e-mail address, or None."""
    fault = text_fault(address, longest=254)
    if fault is None and not (EMAIL.fullmatch(address) and address.isprintable()):
        return "must be an e-mail address, such as you@example.com"
    return fault


def faults(answers: dict[str, object]) -> list[str]:
    """One line for each answer that cannot be used: which prompt, what was given, what is allowed."""
    engine = str(answers["engine"])
    checks = {
        "project_name": partial(text_fault, longest=80),
        "project_slug": partial(slug_fault, engine=engine),
        "package_name": partial(package_fault, engine=engine),
        "description": text_fault,
        "author_name": text_fault,
        "author_email": email_fault,
    }
    lines = [
        f"{prompt}: {json.dumps(answers[prompt])} must be one of {json.dumps(choices)[1:-1]}"
        for prompt, choices in CHOICES.items()
        # The last choices are not made yet when the first check is.
        if prompt in answers and answers[prompt] not in choices
    ]
    for prompt, check in checks.items():
        answer = answers[prompt]
        # A file of answers can hold nothing after the colon, or `yes`.
        fault = check(answer) if isinstance(answer, str) else "must be a text; quote it if it is one"
        if fault:
            lines.append(f"{prompt}: {json.dumps(answer)} {fault}")
    return lines


def main() -> int:
    """Print every fault to standard error; returns 1 if there is one, else 0."""
    answers = json.loads(ANSWERS)
    found = faults(answers)
    # Cookiecutter writes over what is there if told to, and nobody could tell any more which files are whose.
    if any(os.scandir()):
        found.append(
            f"{answers['project_slug']}: the folder holds files already; generate elsewhere, or update with cruft"
        )
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
