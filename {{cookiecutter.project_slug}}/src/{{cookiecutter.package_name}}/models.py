"""The types of requests, responses and records."""

import re
from typing import Annotated, Any, Literal

from email_validator import validate_email
from pydantic import AfterValidator, BaseModel, Field
from starlette.convertors import PathConvertor, register_url_convertor

Channel = Literal["log", "emails", "task_log", "service_log"]
"""The streams of records."""

# Control characters, line and paragraph separators, and what reverses text.
NOT_ON_A_LINE = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
ONE_LINE = rf"^[^{NOT_ON_A_LINE}]*$"


def one_line(text: str) -> str:
    """Return `text` if it stays on one line wherever it is written; raises ValueError if not."""
    if not re.fullmatch(ONE_LINE, text):
        raise ValueError(
            "must not contain control characters, line separators or bidirectional overrides"
        )
    return text


def email_address(address: str) -> str:
    """Return `address` unchanged if its form is valid; raises ValueError if not."""
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
"""An e-mail address without a display name."""


class AddressConvertor(PathConvertor):
    """Matches an address in a path: it may contain a `/`, but does not end with one."""

    regex = r"[\s\S]*[^/]"


register_url_convertor("address", AddressConvertor())


class Scheduled(BaseModel):
    """The work is scheduled; the response does not wait for it."""

    message: str


class Health(BaseModel):
    """All is well."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """The reason why a request was not served."""

    detail: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "The body is too large"},
    503: {
        "model": Problem,
        "description": "The work could not be scheduled; try again later",
        "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
    },
}
"""The `responses` of a router whose endpoints schedule tasks."""
