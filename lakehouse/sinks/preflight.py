"""Before a run: the slice's values in the table's types, and whether a Delta table may be committed to directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pyarrow as pa

from lakehouse import delta
from lakehouse.errors import ConfigError
from lakehouse.storage import shown

_HONOURED = frozenset(
    ["appendOnly", "invariants", "changeDataFeed", "deletionVectors", "v2Checkpoint", "timestampNtz",
     "vacuumProtocolCheck", "domainMetadata", "checkConstraints", "generatedColumns"]
)  # fmt: skip
"""Table features with which a direct commit is right, or whose use is refused by `refuse_rules`."""


def slice_types(values: Mapping[str, Any], existing: pa.Schema | None) -> dict[str, pa.DataType]:
    """The types of the slice columns: the table's own, else by the values (an ISO date is a date)."""
    return {name: existing.field(name).type if existing is not None and name in existing.names else _type_of(value)
            for name, value in values.items()}  # fmt: skip


def _type_of(value: Any) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64()
    if isinstance(value, date):
        return pa.date32()
    try:
        return pa.date32() if date.fromisoformat(value).isoformat() == value else pa.string()
    except ValueError:
        return pa.string()


def slice_texts(values: Mapping[str, Any], types: Mapping[str, pa.DataType]) -> dict[str, str]:
    """The slice's values as the Delta log spells them. Raises ConfigError for one that its column can't hold."""
    texts = {}
    for name, value in values.items():
        try:
            scalar = pa.scalar(str(value) if pa.types.is_string(types[name]) else value)
            typed = scalar.cast(types[name]).as_py()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise ConfigError(f"slice.{name}: {value!r} is not a value of the column's type, {types[name]}") from error
        texts[name] = str(delta.partition_text(typed))
    return texts


def check_target(snapshot: delta.Snapshot, wanted: pa.Schema, slice_columns: Sequence[str], write: str) -> None:
    """Raise ConfigError where a table that is there already is not one this run may commit to directly."""
    name = shown(snapshot.location)
    refuse_rules(snapshot, name, write)
    if list(snapshot.partition_columns) != list(slice_columns):
        raise ConfigError(
            f"{name} is partitioned by {list(snapshot.partition_columns) or 'nothing'}, the job's slice is "
            f"{list(slice_columns) or 'the whole table'}: they must be the same"
        )
    have = {f.name: f.type for f in snapshot.schema}
    want = {f.name: f.type for f in wanted}
    if have != want:
        lines = [
            f"    {column:<30} {have.get(column, '-')!s:<25} {want.get(column, '-')!s}"
            for column in dict.fromkeys([*have, *want])
            if have.get(column) != want.get(column)
        ]
        raise ConfigError(
            f"{name} has another schema than this job writes; publish to a new table, or change the job:\n"
            f"    {'column':<30} {'the table has':<25} the job writes\n" + "\n".join(lines)
        )


def check_addable(snapshot: delta.Snapshot, wanted: pa.Schema, slice_columns: Sequence[str]) -> list[pa.Field]:
    """The columns that a table which only grows lacks. Raises ConfigError where it can't take the others."""
    missing = [f for f in wanted if f.name not in snapshot.schema.names]
    widened = pa.schema([*snapshot.schema, *missing])
    # Columns of earlier jobs' inputs may stay.
    merged = pa.schema([wanted.field(f.name) if f.name in wanted.names else f for f in widened])
    check_target(replace(snapshot, schema=widened), merged, slice_columns, "append")
    return missing


def refuse_rules(snapshot: delta.Snapshot, name: str, write: str) -> None:
    """Raise ConfigError for each rule of the table that a direct commit would not honour."""
    settings = snapshot.configuration
    found = sorted(snapshot.features - _HONOURED)
    found += sorted(k for k in settings if k.startswith("delta.constraints."))
    found += [f"NOT NULL column {f.name!r}" for f in snapshot.schema if not f.nullable]
    found += [f"rule on column {c!r} ({', '.join(sorted(m))})" for c, m in snapshot.metadata.items()
              if any(k.startswith(("delta.generation", "delta.invariants", "delta.identity", "CURRENT_DEFAULT"))
                     for k in m)]  # fmt: skip
    if settings.get("delta.columnMapping.mode", "none") != "none":
        found.append("column mapping")
    if settings.get("delta.universalFormat.enabledFormats"):
        found.append("delta.universalFormat.enabledFormats")
    if settings.get("delta.appendOnly") == "true" and write == "replace":
        found.append("delta.appendOnly (the job replaces rows)")
    if found:
        raise ConfigError(
            f"{name} has what a direct commit can't honour yet: {', '.join(found)}; publish to a table without it"
        )
