"""Records in Avro, by a schema that is known beforehand or that messages name in a registry with Confluent's API."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from lakehouse.errors import ConfigError, Unavailable
from lakehouse.references import text_of

_PATIENCE = 30.0
"""Seconds for an answer of a schema registry."""


def schema_in(path: str) -> str:
    """The schema in a file. Raises ConfigError for a file that isn't there or has none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"source.avro_schema: {path}: {getattr(error, 'strerror', None) or 'it is no text'}"
        ) from error
    _parsed_schema(text, f"source.avro_schema: {path}")
    return text


def reader(own: str | None, registry: str | None, login: str | None) -> Callable[[bytes], Any]:
    """What reads a record, by the schema `own` (as JSON) or by the one of a registry that the message names.

    It raises Unavailable where the registry can't be asked, and anything for bytes that are no record.
    """
    fastavro = _fastavro()
    if registry is None:
        known = _parsed_schema(str(own), "source.avro_schema")

        def plain(value: bytes) -> Any:
            return _read_whole(fastavro, io.BytesIO(value), known)

        return plain
    address = registry

    def named(value: bytes) -> Any:
        if len(value) < 5 or value[0] != 0:
            raise ValueError("it doesn't begin with the id of a schema (a zero byte, then four bytes)")
        schema = _registered(address, login, int.from_bytes(value[1:5], "big"))
        return _read_whole(fastavro, io.BytesIO(value[5:]), schema)

    return named


def _read_whole(fastavro: Any, stream: io.BytesIO, schema: Any) -> Any:
    row = fastavro.schemaless_reader(stream, schema, None)
    if rest := len(stream.getbuffer()) - stream.tell():
        raise ValueError(f"{rest} bytes are left after the record: it is written by another schema")
    return row


def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError as error:
        raise ConfigError(f"source.format: avro needs fastavro: pip install lakehouse[avro] ({error})") from error
    return fastavro


def _parsed_schema(text: str, said: str) -> Any:
    fastavro = _fastavro()
    try:
        return fastavro.parse_schema(json.loads(text))
    except Exception as error:  # the library's own errors have no common kind
        raise ConfigError(f"{said}: no Avro schema: {error}") from error


@lru_cache(maxsize=1024)
def _registered(registry: str, login: str | None, number: int) -> Any:
    """A schema by its id, asked for once a process. Raises ValueError where the registry doesn't know it."""
    address = f"{registry.rstrip('/')}/schemas/ids/{number}"
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"source.registry: {registry!r} must begin with https:// or http://")
    headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
    if login is not None:
        text = text_of(login, "source.registry_login", "").strip()
        headers["Authorization"] = "Basic " + b64encode(text.encode()).decode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=_PATIENCE) as reply:
            said = json.load(reply)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise ValueError(f"the registry has no schema {number}") from error
        raise Unavailable(f"{registry} answers {error.code} {error.reason} when asked for schema {number}") from error
    except (OSError, ValueError) as error:
        raise Unavailable(f"{registry} can't be asked for schema {number}: {error}") from error
    return _parsed_schema(str(said.get("schema")), f"schema {number} of {registry}")
