"""How a Delta table stands to what a run would do to it, before anything is scored. Commits nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from lakehouse import storage
from lakehouse.connectors import delta
from lakehouse.errors import ConfigError
from lakehouse.sinks import slices
from lakehouse.sinks.delta import compatibility
from lakehouse.sinks.delta.history import replay_state, slice_state
from lakehouse.sinks.delta.positions import range_state
from lakehouse.sinks.target import (
    COPIED,
    InspectedTarget,
    QuarantineFit,
    SliceRequest,
    Target,
    UnfitForQuarantine,
    next_generation,
)
from lakehouse.storage import Location, locate


def inspect_table(target: Target, types: Mapping[str, pa.DataType] | None, asked: SliceRequest) -> InspectedTarget:
    """How the table stands to what a run would do to it; `lakehouse.sinks.SinkModule` says what is given and raised."""
    location = locate(target.uri)
    snapshot = delta.open_table(location)
    types = types or slices.slice_types(asked.slice, snapshot.schema if snapshot else None)
    target = replace(target, slice=slices.slice_texts(asked.slice, types))
    decision, doubt = compatibility.Decision(), ""
    if snapshot is not None:
        compatibility.check_partitions(snapshot, list(target.slice))
        decision = compatibility.decide(snapshot, target.write, target.slice)
        target = replace(target, how=decision.how, enforced=decision.enforced)
        _refuse_copying(decision, target, location, asked)
        if snapshot.written_by_spark and location.spark_may_overwrite:
            doubt = (
                f"{display_name(target.uri)}: Spark writes to this table too, and its own log store on "
                f"{location.system} can't exclude another process: let it not write while a run publishes"
            )
    if asked.replays is not None:
        target, state = replay_state(snapshot, target, asked.replays)
    elif target.range is not None:
        state = range_state(snapshot, target)
        target = replace(target, generation=0 if state.same else 1)
    else:
        state = slice_state(snapshot, target, asked)
        target = replace(target, generation=next_generation(target, state, display_name(target.uri), asked))
    held = {f.name: f.type for f in snapshot.schema} if snapshot else {}
    return InspectedTarget(target, state, types, decision.constraints, decision.why, snapshot, doubt, held)


def _refuse_copying(decision: compatibility.Decision, target: Target, location: Location, asked: SliceRequest) -> None:
    if decision.how != COPIED:
        return
    name, why = display_name(target.uri), "; ".join(decision.why)
    location.spark_needs(why)
    if asked.engine == "local":
        raise ConfigError(f"{name}: only Spark can write to this table ({why}): use --engine spark")
    if target.range is not None:
        raise ConfigError(f"{name}: positions can't be kept where Spark writes the rows ({why})")
    if target.write == "append" and asked.rescore:
        raise ConfigError(f"{name}: --rescore can't take appended rows away where Spark writes them ({why})")


def missing_columns(standing: InspectedTarget, wanted: pa.Schema) -> tuple[pa.Field, ...] | None:
    """The columns that the table lacks, None where there is no table; ConfigError for another schema."""
    target, snapshot = standing.target, standing.existing
    if snapshot is None:
        return None
    return tuple(compatibility.check_schema(snapshot, wanted, list(target.slice), target.how))


def fit_quarantine(target: Target, wanted: pa.Schema) -> QuarantineFit:
    """How the quarantine table takes rows of this schema, which has the slice. Raises Unfit where it can't."""
    try:
        snapshot = delta.open_table(locate(target.uri))
    except ConfigError as error:
        raise UnfitForQuarantine(str(error)) from error
    if snapshot is not None:
        return compatibility.fit_quarantine(snapshot, wanted, list(target.slice))
    if other := storage.foreign(locate(target.uri)):
        raise UnfitForQuarantine(f"{display_name(target.uri)} is no table and holds other files ({other[0]})")
    return QuarantineFit(wanted, None)


def has_quarantine(uri: str) -> bool | None:
    """Whether a quarantine table is there; None where nothing is."""
    try:
        snapshot = delta.open_table(locate(uri))
    except ConfigError:
        return False  # whatever it is, it can't be read
    if snapshot is None:
        return False if storage.foreign(locate(uri)) else None
    return compatibility.is_quarantine(snapshot)


def display_name(uri: str) -> str:
    """The table as people write it."""
    return storage.display_name(locate(uri))


def generation(uri: str, identity: str) -> tuple[int, int | None]:
    """The generation that is published under this identity, 0 for none, and the table's version."""
    snapshot = delta.open_table(locate(uri))
    return ((snapshot.transaction(identity) or 0), snapshot.version) if snapshot else (0, None)
