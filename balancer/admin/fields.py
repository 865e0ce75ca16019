"""The fields an operator may set: range, spelling, and in words what is wrong with a value.

Messages never repeat the value: it may be a key, or a URL with a password in it.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from balancer.auth import is_token
from balancer.core.errors import ConnectError
from balancer.core.strategies import ALIASES, STRATEGIES, resolve_strategy
from balancer.upstream.targets import LONGEST_URL, normalised_base_url

LARGEST_ID = 2**53 - 1  # what a browser can count to
_SMALLEST_SHARE = 0.001
_SECRET_SCHEMA: JsonDict = {"writeOnly": True, "pattern": "^[!-~]*$"}

# Beside ASCII control characters: C1 controls, and the separators that some programs take for line breaks.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise PydanticCustomError("control_characters", "must not hold line breaks or other control characters")
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text.strip()


def _secret(text: str) -> str:
    if text and not is_token(text):
        raise PydanticCustomError(
            "visible_ascii", "must be visible ASCII characters only, without blanks and line breaks"
        )
    return text


def _distinct(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _share(number: float) -> float:
    # Virtual times divide by it: something next to nothing would make them infinite.
    if 0 < number < _SMALLEST_SHARE:
        raise PydanticCustomError("too_small", "must be 0 or at least 0.001")
    return number


def _strategy(text: str) -> str:
    try:
        return resolve_strategy(text)
    except ValueError:
        valid = {"names": ", ".join((*STRATEGIES, *ALIASES))}
        raise PydanticCustomError("unknown_strategy", "unknown routing mode; valid are: {names}", valid) from None


def _base_url(text: str) -> str:
    try:
        return normalised_base_url(text)
    except ConnectError as error:
        # Given as a value, since braces in a message would be taken for placeholders.
        words = {"words": str(error).removeprefix("base_url: ")}
        raise PydanticCustomError("url", "{words}", words) from None


Name = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_one_line)]
BaseUrl = Annotated[
    str,
    Field(min_length=8, max_length=LONGEST_URL, json_schema_extra={"format": "uri"}),
    AfterValidator(_base_url),
]
ApiKey = Annotated[str, Field(max_length=2000, json_schema_extra=_SECRET_SCHEMA), AfterValidator(_secret)]
ClientTokenText = Annotated[
    str, Field(min_length=8, max_length=500, json_schema_extra=_SECRET_SCHEMA), AfterValidator(_secret)
]
TimeoutSeconds = Annotated[float, Field(ge=5, le=600)]
QuotaPercent = Annotated[float, Field(ge=0, le=100), AfterValidator(_share)]
PriorityOrder = Annotated[int, Field(ge=1, le=100)]
MaxConcurrent = Annotated[int, Field(ge=0, le=10_000)]
Weight = Annotated[float, Field(gt=0, le=1000), AfterValidator(_share)]
ModelName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_one_line)]
ModelNames = Annotated[list[ModelName], Field(max_length=1000), AfterValidator(_distinct)]
ModelAliases = Annotated[dict[ModelName, ModelName], Field(max_length=1000)]
Price = Annotated[float, Field(ge=0, le=1_000_000)]
Tag = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_one_line)]
Tags = Annotated[list[Tag], Field(max_length=20), AfterValidator(_distinct)]
Coordinate = Annotated[float, Field(ge=-1_000_000, le=1_000_000)]
Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]
RoutingMode = Annotated[
    str,
    Field(max_length=40, json_schema_extra={"examples": [*STRATEGIES, *ALIASES]}),
    AfterValidator(_strategy),
]
