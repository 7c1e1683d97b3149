"""The features of an imported model, taken from a table: which columns they are, their types, and some rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse import sources
from lakehouse.config.systems import Source, build, models_of
from lakehouse.errors import ConfigError, NotReady, nearest
from lakehouse.models.conversions import NAMES, convert
from lakehouse.models.importing.opening import Opened

ROWS = 10_000
"""So many rows at most are looked at."""
"""Names that LightGBM and CatBoost give to columns that had none."""


@dataclass(frozen=True)
class Features:
    """The model's inputs as a frame of some rows. `specs`: name, MLflow's type, whether it is required; `notes`."""

    frame: Any
    specs: tuple[tuple[str, str, bool], ...]
    notes: tuple[str, ...]


def of_table(opened: Opened, table: str, excluded: Sequence[str], target: str | None) -> Features:
    """The features of the model from the first rows of a table (Delta, or a folder of Parquet files).

    Raises ConfigError where the columns are not those that the model wants.
    """
    module, pinned = _pin(table)
    columns = list(pinned.schema.names)
    aside = [*excluded, *([target] if target else [])]
    for name in aside:
        if name not in columns:
            raise ConfigError(f"{table} has no column {name!r} to leave out, {nearest(name, columns)}")
    chosen, notes = _choose(opened, table, [c for c in columns if c not in aside])
    rows = _read(module, pinned, chosen, table)
    numbers = opened.flavor.NAME in ("onnx", "keras")
    arrays, specs = [], []
    for name in chosen:
        array, kind, required = _feature(rows.column(name).combine_chunks(), f"column {name!r} of {table}", numbers)
        arrays.append(array)
        specs.append((name, kind, required))
    nullable = [name for name, _, required in specs if not required]
    seen = f"in the {rows.num_rows:,} rows looked at"
    notes.append(f"may be null, as they are {seen}: {', '.join(nullable)}" if nullable else f"no nulls {seen}")
    frame = pa.table(arrays, names=chosen).to_pandas()
    return Features(frame, tuple(specs), tuple(notes))


def _pin(table: str) -> tuple[Any, Any]:
    """The module that reads this table, and the table as it is now."""
    said = []
    for system, model in models_of(Source).items():
        if not model.IN_FILES:
            continue
        module = sources.of(system)
        try:
            return module, module.pin(build(Source, type=system, table=table), ())
        except ConfigError as error:
            said.append(str(error).removeprefix("source.table: "))
    raise ConfigError(f"--features: {said[0]}")


def _choose(opened: Opened, table: str, columns: list[str]) -> tuple[list[str], list[str]]:
    """The features' columns in the model's order, and what is assumed of them."""
    trained = opened.flavor.trained_on(opened.native)
    names, count = list(trained.names), trained.count
    if names:
        for name in names:
            if name not in columns:
                raise ConfigError(f"the model's feature {name!r} has no column in {table}, {nearest(name, columns)}")
        return names, []
    listed = ", ".join(columns)
    if count is not None and count != len(columns):
        raise ConfigError(
            f"the model has {count} features without names, {table} has {len(columns)} columns for them: {listed}; "
            "leave out those that are none by --exclude, the label by --target"
        )
    how = f"the model has {count} features without names" if count is not None else "the model names no features"
    return columns, [f"{how}: taken are, in the table's order, {listed}"]


def _read(module: Any, pinned: Any, columns: list[str], table: str) -> pa.Table:
    carrier, reason = module.carrier(pinned, columns)
    if carrier != sources.FILES:
        raise ConfigError(
            f"{table} can only be read by Spark ({reason}): name a table with the same columns that is not"
        )
    batches, count = list[pa.RecordBatch](), 0
    for unit in module.units(pinned, columns, ROWS, 1):
        for batch in unit.batches():
            batches.append(batch)
            count += batch.num_rows
            if count >= ROWS:
                return pa.Table.from_batches(batches).slice(0, ROWS)
    if not count:
        raise NotReady(f"{table} has no rows to try the model on")
    return pa.Table.from_batches(batches)


def _feature(column: pa.Array, where: str, numbers: bool) -> tuple[pa.Array, str, bool]:
    """A column as the model is given it, the type of the signature, and whether it is required."""
    kind = _named_type(column.type, column.null_count > 0, numbers)
    if kind is None:
        raise ConfigError(f"{where} is {column.type}, which is no feature's type: leave it out by --exclude")
    made, _ = convert(column, NAMES[kind])
    return made, kind, column.null_count == 0


def _named_type(kind: pa.DataType, nulls: bool, numbers: bool) -> str | None:
    """MLflow's name of a type; whole numbers with nulls are doubles, as in pandas."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if pa.types.is_integer(kind) and not (nulls or numbers):
        return "integer" if kind.bit_width < 32 or kind == pa.int32() else "long"
    if pa.types.is_floating(kind) and kind.bit_width <= 32 and not numbers:
        return "float"
    if is_number:
        return "double"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "datetime"
    return next((name for name, known in NAMES.items() if known == kind), None)
