"""The settings, read once from the environment."""

{% if cookiecutter.engine != "background" %}
import re
{% endif %}
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from dotenv.parser import parse_stream
from pydantic import AfterValidator, {{ "BeforeValidator, " if cookiecutter.sink == "file" }}Field, {{ "RedisDsn, " if cookiecutter.engine != "background" }}ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .models import EmailAddress, one_line


{% if cookiecutter.sink == "file" %}
def folder(path: str | Path) -> str | Path:
    """Return `path`; raises ValueError if it is empty (the current folder) or has a NUL."""
    if not str(path).strip() or "\0" in str(path):
        raise ValueError("must be the path of a folder")
    return path


{% endif %}
{% if cookiecutter.engine != "background" %}
def without_options(url: RedisDsn) -> RedisDsn:
    """Return `url`; raises ValueError if it has parts that some clients ignore and others refuse."""
    if not re.fullmatch("/[0-9]*", url.path or "/") or url.query or url.fragment:
        raise ValueError("must end with the host, the port or the number of a database")
    return url


{% endif %}
class Settings(BaseSettings):
    """Each field comes from the environment variable of its name, or else from the file `.env`."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore")

    service_name: Annotated[str, AfterValidator(one_line)] = Field(
        default={{ cookiecutter.project_name | python_string }},
        description="The prefix of each line in the channel `service_log`.",
        min_length=1,
        max_length=80,
    )
    operator_email: EmailAddress = Field(
        default="user@example.com",
        description="The address that `/complex-task/` notifies.",
    )
{% if cookiecutter.sink == "file" %}
    records_dir: Annotated[Path, BeforeValidator(folder)] = Field(
        default=Path("records"),
        description="The folder of the record files. It is created if it is missing.",
    )
{% endif %}
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="The lowest severity to log.",
    )
{% if cookiecutter.engine != "background" %}
    redis_url: Annotated[RedisDsn, AfterValidator(without_options)] = Field(
        default=RedisDsn("redis://localhost:6379/0"),
        description="The Redis that keeps the tasks; `rediss://` encrypts the connection.",
    )
    heartbeat_interval: int = Field(
        default=60,
        description="Seconds between two heartbeats in the channel `service_log`.",
        gt=0,
    )
{% endif %}


def abort(reason: str) -> NoReturn:
    """Print why the process cannot start, and end it."""
    sys.stderr.write(f"Cannot start: {reason}\n")
    sys.exit(3)  # with any other status, uvicorn's supervisor would start it again and again


def check_env_file() -> None:
    """Refuse a `.env` with a line that is no setting: it would be skipped with a warning."""
    file = Path(".env")
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as stream:
        for binding in parse_stream(stream):
            if binding.error:
                text = binding.original.string  # with the blank lines before it
                line = binding.original.line + text[: -len(text.lstrip())].count("\n")
                abort(f".env: line {line} cannot be read; does it lack a quotation mark?")


def load_settings() -> Settings:
    """Read the settings. A bad value ends the process with a message that names its variable."""
    try:
        check_env_file()
        return Settings()
    except ValidationError as error:
        abort(
            "; ".join(
                f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            )
        )
    except UnicodeDecodeError as error:
        abort(f".env is not UTF-8: {error}")
    except OSError as error:
        abort(f".env cannot be read: {error.strerror}")


settings = load_settings()
