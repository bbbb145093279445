"""Everything that the service reads from its environment."""

import sys
{% if cookiecutter.sink == "file" %}
from pathlib import Path
{% endif %}
from typing import Annotated, Literal, NoReturn

from pydantic import AfterValidator, {{ "BeforeValidator, " if cookiecutter.sink == "file" }}Field, {{ "RedisDsn, " if cookiecutter.engine != "background" }}ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .models import EmailAddress, one_line


{% if cookiecutter.sink == "file" %}
def not_empty(path: str | Path) -> str | Path:
    """Return `path`; raises ValueError if it is empty, which would stand for the current folder."""
    if not str(path).strip():
        raise ValueError("must not be empty")
    return path


{% endif %}
class Settings(BaseSettings):
    """Each field is read from the environment variable of its name, else from the file `.env`."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore")

    service_name: Annotated[str, AfterValidator(one_line)] = Field(
        default={{ cookiecutter.project_name | python_string }},
        description="The name that starts each line of the channel `service_log`.",
        min_length=1,
        max_length=80,
    )
    operator_email: EmailAddress = Field(
        default="user@example.com",
        description="Who is told that a complex task is complete.",
    )
{% if cookiecutter.sink == "file" %}
    log_dir: Annotated[Path, BeforeValidator(not_empty)] = Field(
        default=Path("logs"),
        description="The folder of the record files, made if it is missing.",
    )
{% endif %}
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="How much is logged: this, and what is graver.",
    )
{% if cookiecutter.engine != "background" %}
    redis_url: RedisDsn = Field(
        default=RedisDsn("redis://localhost:6379/0"),
        description="Where tasks wait for a worker; `rediss://` is encrypted.",
    )
    heartbeat_interval: int = Field(
        default=60,
        description="Seconds from one heartbeat in the channel `service_log` to the next.",
        gt=0,
    )
{% endif %}


def refuse_to_start(reason: str) -> NoReturn:
    """Print why the service cannot start, and end the process."""
    sys.stderr.write(f"Cannot start: {reason}\n")
    # uvicorn's own status for a failed start: with any other, its supervisor would try forever.
    sys.exit(3)


def load_settings() -> Settings:
    """Read the settings; bad values end the process with a message that names their variables."""
    try:
        return Settings()
    except ValidationError as error:
        refuse_to_start(
            "; ".join(
                f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            )
        )
    except UnicodeDecodeError as error:
        refuse_to_start(f".env is not UTF-8: {error}")
    except OSError as error:
        refuse_to_start(f".env cannot be read: {error.strerror}")


settings = load_settings()
