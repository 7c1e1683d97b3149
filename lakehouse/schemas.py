"""The Arrow schemas that the parts of a run agree on: features, the scored table, quarantine, the manifest.

Every column name that the project itself gives is defined here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import ConfigError, nearest

MODEL_NAME = "_model_name"
MODEL_VERSION = "_model_version"
RUN_ID = "_run_id"
INPUT_VERSION = "_input_version"
SCORED_AT = "_scored_at"
WARNINGS = "_warnings"
JOB = "_job"
EXPLANATIONS = "_explanations"
FEATURE_DIGEST = "_feature_digest"
REASONS = "_reasons"
TOPIC = "_topic"
PARTITION = "_partition"
OFFSET = "_offset"
TIMESTAMP_OF = "_timestamp"
KEY_OF = "_key"
MESSAGE = "_message"
UNREADABLE = "_unreadable"
"""Columns of messages: where one is, and of one that can't be read its bytes (MESSAGE) and why (UNREADABLE)."""
OF_MESSAGES = frozenset({TOPIC, PARTITION, OFFSET, TIMESTAMP_OF, KEY_OF, MESSAGE, UNREADABLE})

TIMESTAMP = pa.timestamp("us", tz="UTC")
EXPLANATION = pa.struct([("feature", pa.string()), ("contribution", pa.float64())])
EXPLAINED = pa.list_(EXPLANATION)
REASON = pa.struct([("rule", pa.string()), ("column", pa.string()), ("observed", pa.string())])

LINEAGE = pa.schema(
    [
        (MODEL_NAME, pa.string()),
        (MODEL_VERSION, pa.string()),
        (RUN_ID, pa.string()),
        (INPUT_VERSION, pa.int64()),
        (SCORED_AT, TIMESTAMP),
        (WARNINGS, pa.list_(pa.string())),
        (JOB, pa.string()),
    ]
)

COMMENTS: Mapping[str, str] = {
    MODEL_NAME: "Name of the model that gave the score",
    MODEL_VERSION: "Version of the model that gave the score",
    RUN_ID: "Run that wrote the row",
    INPUT_VERSION: "Version of the input table that was read",
    SCORED_AT: "When the run began (UTC)",
    WARNINGS: "Rules of severity warning that the row broke",
    JOB: "Job that wrote the row",
    EXPLANATIONS: "Features that contributed most to the score, the largest first; null where it isn't explained",
    FEATURE_DIGEST: "SHA-256 of the features as the model got them, of which receipts are made",
    REASONS: "Why the row could not be scored",
    TOPIC: "Topic that the message is of",
    PARTITION: "Partition of the topic that the message is in",
    OFFSET: "Place of the message in its partition",
    TIMESTAMP_OF: "When the message was written (UTC)",
    KEY_OF: "Key of the message",
    MESSAGE: "Bytes of a message that could not be read",
}

SCORED = "scored"
QUARANTINED = "quarantined"
COMPARED = "compared"
COUNTS = "counts"
FAILED = "failed"

MANIFEST = pa.schema(
    [
        pa.field("task", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # SCORED or QUARANTINED: a file; COUNTS; FAILED
        pa.field("path", pa.string()),  # relative to its table's root
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("detail", pa.string()),  # a file's Delta statistics, a task's counters, or its error; JSON
    ]
)


@dataclass(frozen=True)
class Feature:
    """One model input: its name in the signature, its column in the table, and the type the model is given.

    `cast`: what the job has the column cast to on its way there.
    """

    name: str | int
    column: str
    type: pa.DataType
    required: bool
    cast: pa.DataType | None = None


@dataclass(frozen=True)
class Tensor:
    """An array that a model is given: the next `columns` of its features, side by side, or the lists of one.

    `name`: None for the only one, which is given as it is. `dtype`: numpy's. `shape`: that of a row, () for a scalar.
    """

    name: str | None
    dtype: str
    shape: tuple[int, ...]
    columns: int


def column_of(schema: pa.Schema, name: str, case_insensitive: bool = False) -> str | None:
    """The table's own spelling of a column's name, or None where it has no such column."""
    return finder(schema.names, case_insensitive)(name)


def finder(names: Sequence[str], case_insensitive: bool = False) -> Callable[[str], str | None]:
    """A function that gives these names' own spelling of one, or None where it is none of them or unclear which."""
    exact, folded = set(names), _by_lower_case(names if case_insensitive else ())

    def find(name: str) -> str | None:
        if name in exact:
            return name
        alike = folded.get(name.lower(), ())
        return str(alike[0]) if len(alike) == 1 else None

    return find


def _by_lower_case(names: Iterable[str]) -> Mapping[str, Sequence[str]]:
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.lower(), []).append(name)
    return alike


def require_columns(schema: pa.Schema, names: tuple[str, ...], role: str, table: str) -> None:
    """Raise ConfigError for the first of `names` that the table lacks."""
    there = set(schema.names)
    for name in names:
        if name not in there:
            raise ConfigError(f"{role}: {table} has no column {name!r}, {nearest_column(name, schema)}")


def nearest_column(name: str, schema: pa.Schema) -> str:
    """The closest column, or all: the tail of an error message. Of messages those that the job declares come first."""
    if UNREADABLE not in schema.names:
        return nearest(name, schema.names)
    places = [column for column in (TOPIC, PARTITION, OFFSET, TIMESTAMP_OF, KEY_OF) if column in schema.names]
    if name in OF_MESSAGES:
        apart = ", ".join(column for column in places if column in (TOPIC, PARTITION, OFFSET))
        return f"messages of this system don't have it: [{apart}] tell them apart"
    near = nearest(name, places)
    if name.startswith("_") and near.endswith("?"):
        return near
    near = nearest(name, [column for column in schema.names if column not in OF_MESSAGES])
    return f"{near}{'' if near.endswith('?') else '.'} If messages have it, add it to source.schema"


def nullable_type(kind: pa.DataType) -> pa.DataType:
    """The type with every part of it nullable and nothing noted at its fields.

    What a table demands of its own rows, a table that is made of them need not: Delta wants a feature for it.
    """
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, nullable_type(f.type)) for f in kind])
    if pa.types.is_map(kind):
        return pa.map_(nullable_type(kind.key_type), nullable_type(kind.item_type))
    if _is_list(kind):
        return pa.list_(nullable_type(kind.value_type))
    return kind


_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_EXACT_IN_FLOAT = {pa.float64(): _INTEGERS[:3], pa.float32(): _INTEGERS[:2]}


def is_widened_by(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of `given` has exactly one equal value in `wanted`, so that a cast loses nothing."""
    if given == wanted or pa.types.is_null(given):
        return True
    if given in _INTEGERS and wanted in _INTEGERS:
        return bool(given.bit_width <= wanted.bit_width)
    if wanted in _EXACT_IN_FLOAT:
        return given in _EXACT_IN_FLOAT[wanted] or (given == pa.float32() and wanted == pa.float64())
    if pa.types.is_decimal(given) and pa.types.is_decimal(wanted):
        whole = wanted.precision - wanted.scale >= given.precision - given.scale
        return bool(whole and wanted.scale >= given.scale)
    if pa.types.is_timestamp(wanted):
        return bool(pa.types.is_date(given) and wanted.tz is None)
    return False


def first_rows(batch: pa.RecordBatch, rows: int) -> pa.RecordBatch:
    """So many of the first rows at most, copied: a slice is pickled with all the rows around it."""
    return batch.take(pa.array(range(min(rows, batch.num_rows)), pa.int64()))


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give a batch the table's schema: columns by name, absent ones null, lossless widening only.

    `schema` is the table's, as Arrow; the result has its columns in its order. Names that differ in case only
    are the same, in structs too, as for Spark. Timestamps of any unit, with or without a zone, become the declared
    ones: Parquet keeps instants as UTC and only labels them.
    Raises ConfigError where a column's stored type or a value of it can't become the declared type without loss.
    """
    if batch.schema.equals(schema):
        return batch
    columns = []
    for field, name in zip(schema, stored_names(batch.schema.names, schema.names), strict=True):
        found = pa.nulls(batch.num_rows, field.type) if name is None else batch.column(name)
        columns.append(_conform_column(found, field))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def stored_names(names: Sequence[str], wanted: Iterable[str]) -> list[str | None]:
    """How a file spells columns of the table: exactly, else in another case; None where it lacks the column.

    Raises ConfigError where several names differ from one in case only.
    """
    exact, found = set(names), list(wanted)
    folded = {} if exact.issuperset(found) else _by_lower_case(names)
    return [name if name in exact else _only_match(name, folded.get(name.lower(), ())) for name in found]


def _only_match(wanted: str, alike: Sequence[str]) -> str | None:
    if len(alike) > 1:
        raise ConfigError(f"column {wanted!r} is stored as {' and as '.join(map(repr, alike))}: which one is unclear")
    return alike[0] if alike else None


def _conform_column(column: pa.Array, field: pa.Field) -> pa.Array:
    wanted = field.type
    if column.type == wanted:
        return column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    stored = column.type
    if pa.types.is_nested(stored) and (spelled := _respell(stored, wanted)) != stored:
        column = column.view(spelled)
    if not _holds(wanted, column.type):
        raise ConfigError(f"column {field.name!r} is stored as {stored}, the table declares {wanted}: no lossless cast")
    if pa.types.is_timestamp(column.type) and pa.types.is_timestamp(wanted) and column.type.tz != wanted.tz:
        # A zone is a label on UTC instants: relabel through a zone-less type, never convert wall clocks.
        column = column.cast(pa.timestamp(column.type.unit)) if column.type.tz else column
        column = pc.assume_timezone(column, wanted.tz) if wanted.tz else column
    try:
        return column.cast(wanted, safe=True)
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"column {field.name!r} is stored as {stored}, the table declares {wanted}: not every value fits: {error}"
        ) from error


def _respell(given: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """`given` with the fields of its structs spelled as in `wanted` where they differ in case only."""
    if _is_list(given) and _is_list(wanted):
        item = given.value_field.with_type(_respell(given.value_type, wanted.value_type))
        return pa.list_(item) if pa.types.is_list(given) else pa.large_list(item)
    if pa.types.is_map(given) and pa.types.is_map(wanted):
        key = given.key_field.with_type(_respell(given.key_type, wanted.key_type))
        return pa.map_(key, given.item_field.with_type(_respell(given.item_type, wanted.item_type)))
    if pa.types.is_struct(given) and pa.types.is_struct(wanted):
        names, fields = [f.name for f in given], {f.name: f for f in given}
        for field, name in zip(wanted, stored_names(names, [f.name for f in wanted]), strict=True):
            if name is not None:
                same = fields[name].with_name(field.name)
                fields[name] = same.with_type(_respell(same.type, field.type))
        return pa.struct(list(fields.values()))
    return given


def _holds(wanted: pa.DataType, given: pa.DataType) -> bool:
    """Whether `wanted` holds every value of `given`, part by part where they are nested."""
    if _is_list(given) and _is_list(wanted):
        return _holds(wanted.value_type, given.value_type)
    if pa.types.is_map(given) and pa.types.is_map(wanted):
        return _holds(wanted.key_type, given.key_type) and _holds(wanted.item_type, given.item_type)
    if pa.types.is_struct(given) and pa.types.is_struct(wanted):
        both = [f.name for f in wanted if given.get_field_index(f.name) >= 0]
        return all(_holds(wanted.field(name).type, given.field(name).type) for name in both)
    instants = pa.types.is_timestamp(given) and pa.types.is_timestamp(wanted)
    return instants or _spelling(given) == _spelling(wanted) or is_widened_by(given, wanted)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _spelling(kind: pa.DataType) -> str:
    """The type's name without the widths of its offsets: large_string and string_view are strings."""
    return str(kind).replace("large_", "").replace("_view", "")
