"""Records in Avro, by a schema that is known beforehand or that messages name in a registry with Confluent's API."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from lakehouse.connectors import unreadable
from lakehouse.errors import ConfigError, Unavailable, nearest
from lakehouse.references import text_of
from lakehouse.schemas import TIMESTAMP, is_widened_by

_PATIENCE = 30.0
"""Seconds for an answer of a schema registry."""
_KINDS: Mapping[str, tuple[type, pa.DataType | None]] = {
    "null": (type(None), pa.null()),
    "boolean": (bool, pa.bool_()),
    "int": (int, pa.int32()),
    "long": (int, pa.int64()),
    "float": (float, pa.float32()),
    "double": (float, pa.float64()),
    "string": (str, pa.string()),
    "enum": (str, pa.string()),
    "bytes": (bytes, pa.binary()),
    "fixed": (bytes, pa.binary()),
    "array": (list, None),
    "map": (dict, None),
    "record": (dict, None),
    "long timestamp-millis": (datetime, TIMESTAMP),
    "long timestamp-micros": (datetime, TIMESTAMP),
    "long local-timestamp-millis": (datetime, TIMESTAMP),
    "long local-timestamp-micros": (datetime, TIMESTAMP),
    "int date": (date, pa.date32()),
    "int time-millis": (time, None),
    "long time-micros": (time, None),
    "bytes decimal": (Decimal, None),
    "fixed decimal": (Decimal, None),
    "string uuid": (UUID, None),
}
"""As what fastavro reads a type, with its logical type if it knows that, and Arrow's of the same values, if any."""


def schema_in(path: str, declared: Mapping[str, tuple[str, pa.DataType]]) -> str:
    """The schema in a file. Raises ConfigError for a file that isn't there or has none, or one that never fits.

    `declared`: as for `reader`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"source.avro_schema: {path}: {getattr(error, 'strerror', None) or 'it is no text'}"
        ) from error
    _require_readable(_parsed_schema(text, f"source.avro_schema: {path}"), declared, path)
    return text


def _require_readable(schema: Any, declared: Mapping[str, tuple[str, pa.DataType]], path: str) -> None:
    """Raise ConfigError where no record by this schema can be read as declared."""
    named = _named_in(schema)
    records = [branch for branch in _branches(schema, named) if "fields" in branch]
    if not records:
        raise ConfigError(f"source.avro_schema: {path} is the schema of no record, so that no message could be read")
    fields = {field["name"] for record in records for field in record["fields"]}
    for name, (said, wanted) in declared.items():
        if name not in fields:
            raise ConfigError(f"source.schema: {path} has no field {name!r}, {nearest(name, fields)}")
        types = [t for r in records for f in r["fields"] if f["name"] == name for t in _branches(f["type"], named)]
        given = [branch for branch in types if branch["type"] != "null"]
        if given and not any(_fits(branch, wanted, named) for branch in given):
            has = " or ".join(dict.fromkeys(_said(branch, named) for branch in given))
            raise ConfigError(
                f"source.schema: {name!r} is declared as {said}, {path} has it as {has}, which no lossless cast makes "
                "one of: declare what messages have, and convert it in the model or by features.cast"
            )


def reader(
    own: str | None, registry: str | None, login: str | None, declared: Mapping[str, tuple[str, pa.DataType]]
) -> Callable[[bytes], Any]:
    """What reads a record, by the schema `own` (as JSON) or by the one of a registry that the message names.

    `declared`: by the name of a field its type as the job has it, in words and as Arrow's.
    It asks for a schema once, be there one or not. It raises Unavailable where the registry can't be asked, and
    anything for bytes that are no record, or one with a value that the declared type has no equal of.
    """
    fastavro = _fastavro()
    if registry is None:
        known = _parsed_schema(str(own), "source.avro_schema")
        doubts = _doubts(known, declared)

        def plain(value: bytes) -> Any:
            return _sure(_read_whole(fastavro, io.BytesIO(value), known), doubts)

        return plain
    address, doubts_of, refused = registry, dict[int, Sequence[_Doubt]](), dict[int, Exception]()

    def named(value: bytes) -> Any:
        if len(value) < 5 or value[0] != 0:
            raise ValueError("it doesn't begin with the id of a schema (a zero byte, then four bytes)")
        number = int.from_bytes(value[1:5], "big")
        if number in refused:
            raise refused[number].with_traceback(None)
        try:
            schema = _registered(address, login, number)
        except (ValueError, ConfigError) as error:
            refused[number] = error
            raise
        if number not in doubts_of:
            doubts_of[number] = _doubts(schema, declared)
        return _sure(_read_whole(fastavro, io.BytesIO(value[5:]), schema), doubts_of[number])

    return named


def _read_whole(fastavro: Any, stream: io.BytesIO, schema: Any) -> Any:
    try:
        row = fastavro.schemaless_reader(stream, schema, None)
    except Exception as error:  # a message may break the library in any way
        raise ValueError(_why(fastavro, stream.getvalue(), schema, error)) from error
    if rest := len(stream.getbuffer()) - stream.tell():
        raise ValueError(f"{rest} bytes are left after the record: it is written by another schema")
    return row


def _why(fastavro: Any, value: bytes, schema: Any, error: Exception) -> str:
    """Which field can't be read and why: those before it can be, by a schema of these alone."""
    fields = schema.get("fields", []) if isinstance(schema, dict) else []
    if not fields:
        return f"it is no Avro record: {unreadable.in_avro(error)}"

    def refuses(count: int) -> bool:
        part = fastavro.parse_schema({"type": "record", "name": schema["name"], "fields": fields[:count]})
        try:
            fastavro.schemaless_reader(io.BytesIO(value), part, None)
        except Exception:  # as above
            return True
        return False

    field = fields[unreadable.first_refused(len(fields), refuses) - 1]
    said = " or ".join(_said(branch, _named_in(schema)) for branch in _branches(field["type"], _named_in(schema)))
    return f"the field {field['name']!r} of the Avro type {said} can't be read: {unreadable.in_avro(error)}"


@dataclass(frozen=True)
class _Doubt:
    """A field that is written by types of which the declared one doesn't hold each value, by how Python has them."""

    field: str
    types: Mapping[type, str]
    declared: str


def _doubts(schema: Any, declared: Mapping[str, tuple[str, pa.DataType]]) -> list[_Doubt]:
    """The declared fields that records by this schema may have no equal values for."""
    named = _named_in(schema)
    found: dict[str, dict[type, str]] = {}
    for record in _branches(schema, named):
        for field in record.get("fields", ()):
            for branch in _branches(field["type"], named):
                if field["name"] in declared and not _fits(branch, declared[field["name"]][1], named):
                    found.setdefault(field["name"], {})[_KINDS[_known(branch)][0]] = _said(branch, named)
    return [_Doubt(name, types, declared[name][0]) for name, types in found.items()]


def _named_in(schema: Any) -> Mapping[str, Any]:
    """The types of a schema that have a name."""
    parts = [part for part in (schema if isinstance(schema, list) else [schema]) if isinstance(part, dict)]
    return {name: kind for part in parts for name, kind in part.get("__named_schemas", {}).items()}


def _sure(row: Any, doubts: Sequence[_Doubt]) -> Any:
    """The record as it is. Raises ValueError for a value whose type the declared one doesn't hold."""
    for doubt in doubts if isinstance(row, dict) else ():
        if said := doubt.types.get(type(row.get(doubt.field))):
            raise ValueError(
                f"the field {doubt.field!r} has the Avro type {said}, it is declared as {doubt.declared}: "
                "no lossless cast"
            )
    return row


def _branches(schema: Any, named: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The types that a value may be of, such as those of a union, each as an object."""
    if isinstance(schema, list):
        return [branch for part in schema for branch in _branches(part, named)]
    kind = schema if isinstance(schema, str) else schema["type"]
    if not isinstance(kind, str):
        return _branches(kind, named)
    if kind in named:
        return [named[kind]]
    return [{"type": kind} if isinstance(schema, str) else schema]


def _known(branch: Mapping[str, Any]) -> str:
    """The name among _KINDS. A logical type that isn't there is read as if it weren't said."""
    logical = f"{branch['type']} {branch.get('logicalType')}"
    return logical if logical in _KINDS else "record" if branch["type"] == "error" else branch["type"]


def _fits(branch: Mapping[str, Any], wanted: pa.DataType, named: Mapping[str, Any]) -> bool:
    if branch["type"] == "array" and pa.types.is_list(wanted):
        return all(_fits(item, wanted.value_type, named) for item in _branches(branch["items"], named))
    given = _KINDS[_known(branch)][1]
    return given is not None and is_widened_by(given, wanted)


def _said(branch: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    if branch["type"] != "array":
        return _known(branch).rpartition(" ")[2]
    return "array of " + " or ".join(_said(item, named) for item in _branches(branch["items"], named))


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
