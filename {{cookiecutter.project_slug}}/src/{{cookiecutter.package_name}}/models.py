"""What requests, responses and records are made of."""

import re
from typing import Annotated, Any, Literal

from email_validator import validate_email
from pydantic import AfterValidator, BaseModel, Field
from starlette.convertors import PathConvertor, register_url_convertor

Channel = Literal["log", "emails", "task_log", "service_log"]
"""Where a record goes: each channel is a stream of lines of its own."""

# No control characters (C0, DEL, C1) and neither of Unicode's own separators: nothing that a reader
# could take for the end of a line.
ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


def one_line(text: str) -> str:
    """Return `text` if it stays on one line wherever it is written; raises ValueError if not."""
    if not re.fullmatch(ONE_LINE, text):
        raise ValueError("must not contain control characters or line separators")
    return text


def email_address(address: str) -> str:
    """Return `address` as it was given if it is valid; raises ValueError if not.

    Nothing is looked up: whether the domain exists, or takes mail, is not known.
    """
    validate_email(address, check_deliverability=False)
    return address


Line = Annotated[
    str,
    Field(min_length=1, max_length=1000, json_schema_extra={"pattern": ONE_LINE}),
    AfterValidator(one_line),
]
"""A text that becomes one line of a channel."""

EmailAddress = Annotated[
    str,
    Field(max_length=254, json_schema_extra={"format": "email"}),
    AfterValidator(email_address),
]
"""An e-mail address alone, without a display name."""


class AddressConvertor(PathConvertor):
    """Takes the rest of a path for an address: that may hold a `/`, but does not end with one."""

    regex = r"[\s\S]*[^/]"


register_url_convertor("address", AddressConvertor())


class Scheduled(BaseModel):
    """The work is handed over; it is done after this response."""

    message: str


class Health(BaseModel):
    """All is well."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """Why a request could not be served."""

    detail: str


def scheduling_responses(message: str) -> dict[int | str, dict[str, Any]]:
    """Document what an endpoint that schedules work answers, with `message` for an example."""
    return {
        200: {
            "description": "The work is scheduled",
            "content": {"application/json": {"example": {"message": message}}},
        },
        503: {
            "model": Problem,
            "description": "The work could not be handed over; try again later",
            "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
        },
    }
