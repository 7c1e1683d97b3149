"""The description of what is served, for programs: OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakehouse import __version__
from lakehouse.schemas import LINEAGE, REASON, WARNINGS
from lakehouse.serving.limits import Limits
from lakehouse.serving.messages import ARROW, CSV, JSON, as_json
from lakehouse.serving.prepared import Prepared

_STATUSES = {
    "400": "The body can't be read: the message says which row and column; or the parameter is unknown",
    "401": "No key, or one that is not known",
    "413": "Too many bytes or rows",
    "415": "Another media type than is read here",
    "429": "Too many requests: wait as Retry-After says",
    "503": "Too many requests wait, or it took too long: wait as Retry-After says",
}


def described(prepared: Sequence[Prepared], limits: Limits, keys: bool, looks_up: bool) -> bytes:
    """The document. `looks_up`: published scores can be asked for."""
    paths: dict[str, Any] = {}
    for one in prepared:
        paths[f"/v1/{one.job}/score"] = {"post": _score(one, limits)}
        if looks_up:
            paths[f"/v1/{one.job}/scores/{{key}}"] = {"get": _look_up(one)}
    for path, what in (
        ("/health", "The process answers"),
        ("/ready", "Scores can be asked for, and of which model; 503 while not"),
    ):
        paths[path] = {"get": {"summary": what, "security": [], "responses": {"200": {"description": what}}}}
    paths["/metrics"] = {"get": {"summary": "Figures of all workers", "responses": {"200": {"description": "Text"}}}}
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    return as_json(
        {
            "openapi": "3.1.0",
            "info": {"title": "lakehouse", "version": __version__},
            "paths": paths,
            "components": {"securitySchemes": schemes, "schemas": {"Reasons": _type(pa.list_(REASON))}},
            "security": [{"bearer": []}, {"key": []}] if keys else [],
        }
    )


def _score(one: Prepared, limits: Limits) -> dict[str, Any]:
    row = _row(one.schema, one.optional)
    columns = {name: {"type": "array", "items": kind} for name, kind in row["properties"].items()}
    records = {"type": "object", "required": ["records"], "properties": {"records": {
        "type": "array", "minItems": 1, "maxItems": limits.rows, "items": row}}}  # fmt: skip
    columnar = {"type": "object", "required": ["columns"], "properties": {"columns": {
        "type": "object", "required": row["required"], "properties": columns}}}  # fmt: skip
    listed = {"type": "array", "minItems": 1, "items": row}
    example = {"records": [{field.name: _example(field.type) for field in one.schema}]}
    model = f"{one.model['name']} v{one.model['version']}"
    return {
        "summary": f"Score rows by {model}",
        "description": "200 where at least one row is scored, those set aside in `quarantined`; 422 where none is.",
        "parameters": [{"name": "layout", "in": "query", "schema": {"enum": ["records", "columns"]}}],
        "requestBody": {"required": True, "content": {
            JSON: {"schema": {"anyOf": [records, columnar, listed]}, "example": example}, ARROW: {}, CSV: {}}},
        "responses": {
            "200": {"description": "Scores", "content": {JSON: {"schema": _answer(one)}, ARROW: {}}},
            "422": {"description": "No row could be scored, and why", "content": {JSON: {"schema": _answer(one)}}},
            **{status: {"description": what} for status, what in _STATUSES.items()},
        },
    }  # fmt: skip


def _answer(one: Prepared) -> dict[str, Any]:
    keys = {name: _type(one.schema.field(name).type) for name in one.keys}
    scores = {o.name: _type(o.column_type or pa.null()) for o in one.scoring.outputs}
    kept = {name: _type(one.schema.field(name).type) for name in one.scoring.keep}
    row = {"_row": {"type": "integer"}}
    lists = {
        "scores": row | keys | kept | scores | {WARNINGS: _type(LINEAGE.field(WARNINGS).type)},
        "quarantined": row | keys | {"_reasons": {"$ref": "#/components/schemas/Reasons"}},
    }
    lineage = {field.name: _type(field.type) for field in LINEAGE}
    return {"type": "object", "properties": {
        "job": {"type": "string"}, "request_id": {"type": "string"},
        "lineage": {"type": "object", "properties": lineage},
        **{name: {"type": "array", "items": {"type": "object", "properties": p}} for name, p in lists.items()},
    }}  # fmt: skip


def _look_up(one: Prepared) -> dict[str, Any]:
    key = ", ".join(one.keys)
    parameters = [
        {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}, "description": key},
        {"name": "date", "in": "query", "schema": {"type": "string", "format": "date"},
         "description": "default: the newest published"},
    ]  # fmt: skip
    time = {"type": ["string", "null"], "format": "date-time"}
    published = {"published_at": time | {"description": "When the row's own run was"},
                 "looked_at": time | {"description": "When the table was last looked at"}}  # fmt: skip
    responses = {
        "200": {"description": "The score", "content": {JSON: {"schema": {"type": "object", "properties": published}}}},
        "400": {"description": "The key or the date is none, or the parameter is unknown"},
        "404": {"description": "No score is published under this key"},
        **{status: {"description": _STATUSES[status]} for status in ("401", "429", "503")},
    }
    return {"summary": f"The published score of {key}", "parameters": parameters, "responses": responses}


def _row(schema: pa.Schema, optional: Sequence[str]) -> dict[str, Any]:
    properties = {field.name: _type(field.type) for field in schema}
    return {"type": "object", "properties": properties, "required": [n for n in properties if n not in optional]}


def _type(kind: pa.DataType) -> dict[str, Any]:
    """A column's type as JSON Schema; every column may be null, which is set aside where it must not be."""
    if pa.types.is_map(kind):
        return {"type": ["object", "null"], "additionalProperties": _type(kind.item_type)}
    if pa.types.is_struct(kind):
        return {"type": ["object", "null"], "properties": {f.name: _type(f.type) for f in kind}}
    if pa.types.is_nested(kind):
        return {"type": ["array", "null"], "items": _type(kind.field(0).type)}
    if pa.types.is_boolean(kind):
        return {"type": ["boolean", "null"]}
    if pa.types.is_integer(kind):
        return {"type": ["integer", "null"]}
    if pa.types.is_floating(kind):
        return {"type": ["number", "null"]}
    formed = {"timestamp": "date-time", "date32": "date"}
    form = next((form for name, form in formed.items() if str(kind).startswith(name)), None)
    return {"type": ["string", "null"], **({"format": form} if form else {})}


def _example(kind: pa.DataType) -> Any:
    """A made-up value: no row of anybody's."""
    if pa.types.is_boolean(kind):
        return True
    if pa.types.is_integer(kind):
        return 1
    if pa.types.is_floating(kind):
        return 0.5
    if pa.types.is_timestamp(kind):
        return "2026-01-02T03:04:05Z" if kind.tz else "2026-01-02T03:04:05"
    if pa.types.is_date(kind):
        return "2026-01-02"
    if pa.types.is_decimal(kind):
        return "1"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None
