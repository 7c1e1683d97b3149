"""The values that a job file's keys take, as pydantic types, and what every section of it keeps to."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

from lakehouse.config.messages import KINDS, describe_value
from lakehouse.errors import nearest

TRUST = ("pickle", "code", "python_function")
_DIGEST = r"sha256:[0-9a-f]{64}"
_TYPE = r"type:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+"

_DAYS = r"^(1 day|([2-9]|[1-9][0-9]{1,4}) days)$"


def of_type(*types: type) -> BeforeValidator:
    """Accept values of these very types: one line for one mistake in a union, and no bool as an int."""
    wanted = " or ".join(KINDS[kind] for kind in types if kind in KINDS)

    def check(value: object) -> object:
        if type(value) not in types:
            raise ValueError(f"must be {wanted}, not {describe_value(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"must be a finite number, not {value}")
        return value

    return BeforeValidator(check)


def tuple_of(of: str = "") -> BeforeValidator:
    """Take a YAML list as a tuple, since strict pydantic does not; with `of`, a list of at least one of it."""

    def check(value: object) -> object:
        if not isinstance(value, (list, tuple)):
            hint = f": write [{value}]" if isinstance(value, str) else ""
            raise ValueError(f"must be a list, not {describe_value(value)}{hint}")
        if of and not value:
            raise ValueError(f"name at least one {of}")
        return tuple(value)

    return BeforeValidator(check)


def columns_of_tensors() -> BeforeValidator:
    """Take a list of columns, or names with a column or a list of columns each, as tuples; one line for one mistake."""

    def columns(value: object, where: str = "") -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)):
            hint = f": write [{value}]" if isinstance(value, str) else ""
            wanted = "a column or a list of columns" if where else "a list of columns, or names with columns"
            raise ValueError(f"{where}must be {wanted}, not {describe_value(value)}{hint}")
        if wrong := [name for name in value if not isinstance(name, str) or not name]:
            raise ValueError(f"{where}must be columns, not {describe_value(wrong[0])}")
        if where and not value:
            raise ValueError(f"{where}name at least one column")
        return tuple(value)

    def check(value: object) -> object:
        if not isinstance(value, dict):
            return columns(value)
        if wrong := [name for name in value if not isinstance(name, str) or not name]:
            raise ValueError(f"the key must be text, not {describe_value(wrong[0])}: put it in quotes")
        return {name: columns([of] if isinstance(of, str) else of, f"{name}: ") for name, of in value.items()}

    return BeforeValidator(check)


def _param(value: object) -> object:
    for item in value if isinstance(value, list) else [value]:
        if type(item) not in (bool, int, float, str):
            raise ValueError(f"must be a single value or a list of single values, not {describe_value(item)}")
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"must be a finite number, not {item}")
    return value


def _require_filled(value: object) -> object:
    if value == "":
        raise ValueError("must not be empty: a slice value names what this run replaces")
    return value


def _require_trust(value: str) -> str:
    if value in TRUST or re.fullmatch(_DIGEST, value) or re.fullmatch(_TYPE, value):
        return value
    if value.startswith("type:"):
        raise ValueError(f"must be type: and a type with its module, such as type:mylib.MyTransformer, not {value!r}")
    if value.startswith("sha256"):
        raise ValueError(f"must be sha256: and 64 lower-case hexadecimal digits, not {value!r}")
    raise ValueError(f"{value!r} can't be trusted, {nearest(value, (*TRUST, 'type:<type>', 'sha256:<digest>'))}")


_HOST = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?"


def fault_of_address(text: str, *, scheme: bool = True, login: bool = False) -> str | None:
    """Why a text is no address on the web, without repeating it, which may be a secret; None for one that is.

    `scheme`: whether http:// or https:// has to begin it; without, it is a host alone. `login`: one may be in it.
    """
    if re.search(r"[\s\x00-\x1f]", text):
        return "has blanks in it"
    given, at, rest = text.rpartition("://")
    if (at and given not in ("http", "https")) or (scheme and not at):
        return "must begin with https:// or http://"
    try:
        parts = urlsplit(f"http://{rest}")
        port = parts.port
    except ValueError:
        return "has no port (1 to 65535) after the colon"
    if port == 0 or parts.netloc.endswith(":"):
        return "has no port (1 to 65535) after the colon"
    _, before, place = parts.netloc.rpartition("@")
    if before and not login:
        return "must have no login in it"
    if not re.fullmatch(f"(?:{_HOST})(?::[0-9]+)?", place):
        return "names no host"
    return None if scheme or (parts.path in ("", "/") and not parts.query) else "must end after its host and port"


def address(example: str, *, scheme: bool = True) -> AfterValidator:
    """What is an address on the web that is no secret, with one to be shown as an example."""

    def require(value: str) -> str:
        if (fault := fault_of_address(value, scheme=scheme)) is None:
            return value
        hint = f"http://{value}"
        plain = "://" not in value and fault_of_address(hint) is None
        better = hint if plain else f"an address such as {example}"
        shown = "the address" if "@" in value else describe_value(value)  # before it a login may stand
        raise ValueError(f"{shown} {fault}: write {better}")

    return AfterValidator(require)


def _require_days(value: str) -> str:
    if not re.fullmatch(_DAYS, value):
        raise ValueError(f"must be a number of days, such as '400 days', not {describe_value(value)}")
    return value


Scalar = bool | int | float | str
Text = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1), WithJsonSchema({"type": "string", "minLength": 1})]
"""A text that nothing shows: only `get_secret_value` gives it."""
Texts = Annotated[tuple[Text, ...], tuple_of()]
SliceValue = Annotated[
    bool | int | str | dt.date,
    BeforeValidator(_require_filled),
    of_type(str, int, bool, dt.date),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}, {"type": "boolean"}]}),
]
Param = Annotated[Scalar | list[Scalar], BeforeValidator(_param)]
Trust = Annotated[
    str,
    AfterValidator(_require_trust),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(TRUST)}|{_TYPE}|{_DIGEST})$"}),
]


Days = Annotated[str, AfterValidator(_require_days), WithJsonSchema({"type": "string", "pattern": _DAYS})]


class Section(BaseModel):
    """A section of the job file: closed, frozen, and strict about types."""

    # by name: Prediction(class_=1) in code; load_job turns it off for files
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_by_name=True, defer_build=True
    )
