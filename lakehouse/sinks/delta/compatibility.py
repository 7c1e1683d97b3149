"""Before a run: the slice's values in the table's types, and how a Delta table may be published to, if at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lakehouse.conditions import Comparison, admits
from lakehouse.conditions.parsing import parse_where
from lakehouse.connectors import delta
from lakehouse.errors import ConfigError
from lakehouse.schemas import JOB, LINEAGE, REASON, REASONS, RUN_ID, is_widened_by, nullable_type
from lakehouse.scoring.score import Constraint
from lakehouse.sinks.target import COPIED, DIRECT, QuarantineFit, UnfitForQuarantine
from lakehouse.storage import display_name

_DIRECT = frozenset(
    ["appendOnly", "invariants", "changeDataFeed", "deletionVectors", "v2Checkpoint", "timestampNtz",
     "vacuumProtocolCheck", "domainMetadata", "checkConstraints", "generatedColumns"]
)  # fmt: skip
"""Table features that leave a direct commit right, or of which `decide` looks at each use."""
_COPIED = frozenset(
    ["clustering", "rowTracking", "inCommitTimestamp", "typeWidening", "typeWidening-preview", "icebergCompatV1",
     "icebergCompatV2", "checkpointProtection", "identityColumns", "columnMapping", "allowColumnDefaults"]
)  # fmt: skip
"""Table features that Spark writes and deltalake does not."""
_FILLED = ("delta.generationExpression", "delta.identity", "CURRENT_DEFAULT")
_WATCHED = (*_FILLED, "delta.invariants", "__CHAR_VARCHAR_TYPE_STRING")


@dataclass(frozen=True)
class Decision:
    """How a table is published to and why. `constraints`: those that every staged row is held against."""

    how: str = DIRECT
    why: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    @property
    def enforced(self) -> tuple[str, ...]:
        return tuple(c.text for c in self.constraints)


def decide(snapshot: delta.Snapshot, write: str, slice_values: Mapping[str, str]) -> Decision:
    """How this table may be published to: directly, its constraints held against every staged row; or by Spark.

    Raises ConfigError, by name, for what neither can honour, and where the slice itself breaks a constraint.
    """
    name, settings = display_name(snapshot.location), snapshot.configuration
    refused = [f"table feature {f}" for f in sorted(snapshot.features - _DIRECT - _COPIED)]
    if settings.get("delta.universalFormat.enabledFormats"):
        refused.append("delta.universalFormat.enabledFormats")
    if "delta.setTransactionRetentionDuration" in settings:
        # Spark's next checkpoint drops ids that don't say when they were made, as a direct commit's don't.
        refused.append("delta.setTransactionRetentionDuration (the table would forget what was published to it)")
    if settings.get("delta.appendOnly") == "true" and write != "append":
        refused.append("delta.appendOnly (the job replaces rows)")
    if refused:
        raise ConfigError(f"{name} has what can't be honoured: {', '.join(refused)}; publish to a table without it")
    copied = [f"table feature {f}" for f in sorted(snapshot.features & _COPIED)]
    if settings.get("delta.columnMapping.mode", "none") != "none":
        copied.append("column mapping")
    for column, metadata in snapshot.metadata.items():
        if found := sorted(k for k in metadata if k.startswith(_WATCHED)):
            copied.append(f"column {column!r} has {', '.join(found)}")
    if write == "merge" and settings.get("delta.enableChangeDataFeed") == "true":
        copied.append("a change data feed, of which a merge has to write the changes")
    if write == "merge" and "deletionVectors" in snapshot.features:
        copied.append("deletion vectors, which a merge has to take away")
    constraints: list[Constraint] = []
    for column in snapshot.schema:
        if not column.nullable and column.name not in slice_values:
            text = f"{column.name} IS NOT NULL"
            constraints.append(Constraint("not_null", column.name, (Comparison(column.name, "not_null"),), text))
        elif _has_required_part(column.type):
            copied.append(f"column {column.name!r} has parts that are NOT NULL")
    for key, text in sorted(settings.items()):
        if key.startswith("delta.constraints."):
            constraint = key.removeprefix("delta.constraints.")
            rule = _compile(constraint, text, snapshot, slice_values)
            if rule is None:
                copied.append(f"CHECK constraint {constraint} ({text}), which only Spark evaluates")
            else:
                constraints.append(rule)
    return Decision(COPIED, tuple(copied)) if copied else Decision(DIRECT, (), tuple(constraints))


def _has_required_part(kind: pa.DataType) -> bool:
    return any(
        not kind.field(i).nullable or _has_required_part(kind.field(i).type)
        for i in range(kind.num_fields)
        if not pa.types.is_map(kind)
    )


def _compile(name: str, text: str, snapshot: delta.Snapshot, slice_values: Mapping[str, str]) -> Constraint | None:
    """A CHECK constraint as comparisons on what the job writes; None where only Spark can evaluate it."""
    try:
        parsed = parse_where(text, snapshot.schema)
    except ConfigError:
        return None
    if parsed.reason or set(parsed.columns) & set(LINEAGE.names):
        return None
    for c in parsed.comparisons:
        if c.column in slice_values:
            value = pa.scalar(slice_values[c.column]).cast(snapshot.schema.field(c.column).type).as_py()
            if not admits(c, value):
                raise ConfigError(
                    f"slice.{c.column}: {value} breaks the CHECK constraint {name} ({text}) of "
                    f"{display_name(snapshot.location)}"
                )
    comparisons = tuple(c for c in parsed.comparisons if c.column not in slice_values)
    columns = dict.fromkeys(c.column for c in comparisons)
    return Constraint(f"check:{name}", ",".join(columns), comparisons, text)


def check_partitions(snapshot: delta.Snapshot, slice_columns: Sequence[str]) -> None:
    """Raise ConfigError where the table's partition columns are not the slice's."""
    if list(snapshot.partition_columns) != list(slice_columns):
        raise ConfigError(
            f"{display_name(snapshot.location)} is partitioned by "
            f"{list(snapshot.partition_columns) or 'nothing'}, the job's slice is "
            f"{list(slice_columns) or 'the whole table'}: they must be the same"
        )


def check_schema(
    snapshot: delta.Snapshot, wanted: pa.Schema, slice_columns: Sequence[str], how: str = DIRECT
) -> list[pa.Field]:
    """The columns that the table lacks and may be given. Raises ConfigError, both schemas side by side, otherwise."""
    name = display_name(snapshot.location)
    check_partitions(snapshot, slice_columns)
    have = {f.name: nullable_type(f.type) for f in snapshot.schema}
    want = {f.name: f.type for f in wanted}
    filled = {c for c, metadata in snapshot.metadata.items() if any(k.startswith(_FILLED) for k in metadata)}
    missing = [f for f in wanted if f.name not in have]
    same = all(have[c] == want[c] for c in want if c in have)
    folded = {c.lower() for c in have}
    addable = how == DIRECT and not any(f.name.lower() in folded for f in missing)
    if same and (addable or not missing) and set(have) - set(want) <= (filled if how == COPIED else set()):
        return missing
    columns = dict.fromkeys([*have, *want])
    lines = [
        f"  {' ' if have.get(c) == want.get(c) else '!'} {c:<30} {have.get(c, '-')!s:<25} {want.get(c, '-')!s}"
        for c in columns
    ]
    raise ConfigError(
        f"{name} has another schema than this job writes; publish to a new table, or change the job:\n"
        f"    {'column':<30} {'the table has':<25} the job writes\n" + "\n".join(lines)
    )


def fit_quarantine(snapshot: delta.Snapshot, wanted: pa.Schema, slice_columns: Sequence[str]) -> QuarantineFit:
    """How a quarantine table takes rows: a column that its type holds without loss in that type, absent ones added.

    Columns of earlier inputs may stay. Raises Unfit for another kind of table, one that can't be committed to directly,
    has constraints, or has columns that can't hold the rows'.
    """
    name, have = display_name(snapshot.location), {f.name: nullable_type(f.type) for f in snapshot.schema}
    if not is_quarantine(snapshot):
        raise UnfitForQuarantine(f"{name} is no quarantine table")
    try:
        decision = decide(snapshot, "append", {})
        check_partitions(snapshot, slice_columns)
    except ConfigError as error:
        raise UnfitForQuarantine(str(error)) from error
    if decision.how != DIRECT or decision.constraints:
        raise UnfitForQuarantine(f"{name} can't take every row: it has {', '.join(decision.why or decision.enforced)}")
    folded, wrong = {c.lower(): c for c in have}, list[str]()
    for field in wanted:
        if field.name in have and not is_widened_by(field.type, have[field.name]):
            wrong.append(f"{field.name} is {have[field.name]} there and {field.type} here")
        elif field.name not in have and field.name.lower() in folded:
            wrong.append(f"{field.name} is {folded[field.name.lower()]} there")
    if wrong:
        raise UnfitForQuarantine(f"{name} can't hold these rows ({', '.join(wrong)})")
    held = pa.schema([f.with_type(have.get(f.name, f.type)) for f in wanted])
    return QuarantineFit(held, tuple(f for f in held if f.name not in have))


def is_quarantine(snapshot: delta.Snapshot) -> bool:
    """Whether a table has what every quarantine table has."""
    have = {f.name: nullable_type(f.type) for f in snapshot.schema}
    return (have.get(REASONS), have.get(RUN_ID), have.get(JOB)) == (pa.list_(REASON), pa.string(), pa.string())
