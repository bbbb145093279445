"""Everything that the service reads from its environment."""

import sys
{% if cookiecutter.sink == "file" %}
from pathlib import Path
{% endif %}
from typing import Annotated, NoReturn

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .models import EmailAddress, one_line


class Settings(BaseSettings):
    """One field an environment variable; what is not set there may stand in the file `.env`."""

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
    log_dir: Path = Field(
        default=Path("logs"),
        description="The folder of the record files, made if it is missing.",
    )
{% endif %}


def refuse_to_start(reason: str) -> NoReturn:
    """Print why the service cannot start, and end the process."""
    sys.stderr.write(f"Cannot start: {reason}\n")
    # uvicorn's own status for a failed start: with any other, its supervisor would try for ever.
    sys.exit(3)


def load_settings() -> Settings:
    """Read the settings; bad values end the process with a message that names their variables."""
    try:
        return Settings()
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}".upper() + f": {fault['msg']}" for fault in error.errors()]
        refuse_to_start("; ".join(faults))


settings = load_settings()
