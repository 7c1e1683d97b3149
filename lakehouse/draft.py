"""`lakehouse init`: a first job file from a model and a table, with what was found in both."""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import yaml

from lakehouse import model
from lakehouse.config import Model as ModelConfig
from lakehouse.config import json_schema
from lakehouse.contract import finder, widens
from lakehouse.delta import Snapshot, open_table
from lakehouse.errors import ConfigError, nearest
from lakehouse.storage import locate, shown, siblings

_ANY = ("pickle", "code", "python_function")  # nothing is loaded here, only described


def write(uri: str, table: str, out: Path | None, tracking_uri: str | None) -> Path:
    """Write the job file; its path. Raises ConfigError where it exists already, or model or table don't."""
    config = ModelConfig(uri=uri, tracking_uri=tracking_uri, trust=_ANY)
    location = locate(table)
    snapshot = open_table(location)
    if snapshot is None:
        hint = nearest(location.path.rsplit("/", 1)[-1], siblings(location))
        raise ConfigError(f"there is no Delta table at {shown(location)}; {hint}")
    with tempfile.TemporaryDirectory(prefix="lakehouse-") as folder:
        found = model.fetch(config, model.resolve(config), Path(folder))
        needed = [what for what, _ in model.needs_of(found)]
    target = out or Path("conf") / f"{found.name}.yaml"
    if target.exists():
        raise ConfigError(f"{target} is there already: name another file with --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    schema = target.with_name("job.schema.json")
    if not schema.exists():
        schema.write_text(json.dumps(json_schema(), indent=2) + "\n")
    target.write_text(_text(found, snapshot, table, uri, tracking_uri, needed))
    return target


def _text(
    found: model.Model, snapshot: Snapshot, table: str, uri: str, tracking_uri: str | None, needed: list[str]
) -> str:
    inputs = model.inputs_of(found)
    renames, notes = _match(inputs, snapshot.schema)
    used = {renames.get(name, name) for name, _, _ in inputs}
    key, others = _key(snapshot, used)
    day = next((c for c in snapshot.partition_columns if _is_day(snapshot.schema.field(c))), None)
    source = {"type": "delta", "table": table} | ({"where": f"{day} = '{{date}}'"} if day else {})
    chosen: dict[str, object] = {"uri": uri}
    if tracking_uri:
        chosen["tracking_uri"] = tracking_uri
    sections: list[tuple[str, Mapping[str, object]]] = [
        (f"scores {table} with {found.name} v{found.version}", {"job": found.name}),
        ("where the rows to score are read", {"source": source}),
        ("method: predict_proba gives the probabilities of a classifier's classes", {"model": chosen}),
        (f"identifies a row; other columns: {', '.join(others) or 'none'}", {"keys": [key]}),
        ("further columns of the table for the scored table", {"keep": []}),
    ]
    if renames:
        sections.append(("feature of the model: column of the table", {"features": {"rename": renames}}))
    if day:
        sections.append(("what a run replaces", {"slice": {"score_date": "{date}"}}))
    sections.append(
        ("the scored table", {"sinks": [{"type": "delta", "table": f"{_beside(table)}/{found.name}_scores"}]})
    )
    head = ["# yaml-language-server: $schema=job.schema.json", "# The model's signature:"]
    head += [f"#   {name}: {kind}{'' if required else ', may be null'}" for name, kind, required in inputs]
    head += [f"# {note}" for note in notes]
    if needed:
        head.append(
            f"# TODO: not safe to load; if you trust whoever logged it, add model: {{trust: [{', '.join(needed)}]}}"
        )
    body = [
        f"# {why}\n{yaml.safe_dump(content, sort_keys=False, default_flow_style=False)}" for why, content in sections
    ]
    return "\n".join([*head, "", *body])


def _match(inputs: list[tuple[str, pa.DataType, bool]], schema: pa.Schema) -> tuple[dict[str, str], list[str]]:
    """Renames for features whose column is spelt otherwise, and notes on those that don't fit."""
    renames, notes = {}, []
    find = finder(schema.names, case_insensitive=True)
    for name, kind, _ in inputs:
        column = find(name)
        if column is None:
            close = difflib.get_close_matches(name, schema.names, n=1, cutoff=0.8)
            column = close[0] if close else None
        if column is None:
            notes.append(f"TODO: no column for the feature {name!r}: add features: {{rename: {{{name}: …}}}}")
            continue
        if column != name:
            renames[name] = column
        if not widens(schema.field(column).type, kind):
            notes.append(f"TODO: {column!r} is {schema.field(column).type}, the model wants {kind}")
    return renames, notes


def _key(snapshot: Snapshot, used: set[str]) -> tuple[str, list[str]]:
    """The likeliest key, and the columns that are neither key nor feature."""
    free = [c for c in snapshot.schema.names if c not in used and c not in snapshot.partition_columns]
    # Sorting is stable: of equals the first column of the table.
    ranked = sorted(free, key=lambda c: (not c.lower().endswith("id"), not _plain(snapshot.schema.field(c))))
    key = ranked[0] if ranked else snapshot.schema.names[0]
    return key, [c for c in free if c != key]


def _plain(field: pa.Field) -> bool:
    return bool(pa.types.is_integer(field.type) or pa.types.is_string(field.type))


def _is_day(field: pa.Field) -> bool:
    return bool(pa.types.is_date(field.type) or ("date" in field.name.lower() and pa.types.is_string(field.type)))


def _beside(table: str) -> str:
    return table.rstrip("/").rpartition("/")[0] or "."
