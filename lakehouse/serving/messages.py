"""Requests and responses as the handler knows them, whatever front they come by, and why a request is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NoReturn

import pyarrow as pa

orjson: Any = None
with suppress(ImportError):  # it is faster, and does nothing else
    orjson = import_module("orjson")
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
SHOWN = 80
"""Characters of what can't be read that a message shows."""
UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What Arrow raises for values that a type can't hold."""


@dataclass(frozen=True)
class Request:
    """What is asked. `headers` by their names in lower case; `client`: whose address it comes from.

    `size`: what the body is said to have; of one that is too large not all need be read.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    client: str = ""
    size: int = 0


@dataclass(frozen=True)
class Response:
    """What is answered, and what the log and the metrics are told of it (`facts`)."""

    status: int
    body: bytes
    type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Refusal(Exception):
    """A request that can't be answered as it is: the status, and what was wrong, where, and what to do."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def as_json(content: Any) -> bytes:
    """An object as JSON, without spaces."""
    if orjson is not None:
        with suppress(TypeError):  # such as a whole number of more than 64 bits
            return bytes(orjson.dumps(content))
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(errors="replace")


def from_json(body: bytes) -> Any:
    """What the JSON says. Raises ValueError, RecursionError."""
    if orjson is not None:
        with suppress(ValueError):  # Python's own says what is wrong, in the same words with and without this library
            return orjson.loads(body)
    return json.loads(body, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON: send null for a value that is missing")


def in_words(value: object) -> str:
    """A value of a body as JSON, cut where it is long."""
    said = json.dumps(value, default=str)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}…"
