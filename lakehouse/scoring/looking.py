"""Looking for rows that the model can be given, in units of the input: on the driver, or on executors."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.scoring.routing import numbers_of_models
from lakehouse.scoring.score import Scoring, fit_rows
from lakehouse.scoring.staging import BatchSource

ROWS = 1_024
"""Rows of a batch of a sample, at most."""

Asked = tuple[Sequence[BatchSource], Scoring]
"""Units, and what tells which of their rows the model can be given."""


def fit_for(batch: pa.RecordBatch, scoring: Scoring) -> pa.RecordBatch:
    """The rows of a batch that the model, or one of many, can be given."""
    _, rows = fit_rows(batch, scoring)
    if scoring.route is None:
        return rows
    return rows.filter(pa.array(numbers_of_models(rows.column(scoring.route.by), scoring.route) >= 0, pa.bool_()))


def cut(unit: Any, size: int) -> list[Any]:
    """A unit in parts of so many bytes, where it is a whole file."""
    return list(unit.parts(size)) if hasattr(unit, "parts") else [unit]


def may_pass(unit: BatchSource) -> bool:
    """Whether a row of a unit may pass `where`, for which its columns alone are read."""
    return bool(unit.has_rows()) if hasattr(unit, "has_rows") else True


def first_rows(asked: Asked) -> dict[str, Any] | None:
    """On an executor: the first rows of units that the model can be given, as `rows_of` reads them, ROWS at most.

    Rows that it can't be given where there are no others, None where there is no row at all. What would fail again is
    told instead of raised.
    """
    work, scoring = asked
    unfit = None
    try:
        for unit in filter(may_pass, work):
            for batch in unit.batches():
                rows = fit_for(batch, scoring)
                if rows.num_rows:
                    return {"rows": _text(rows.slice(0, ROWS))}
                unfit = unfit or {"rows": _text(batch.slice(0, ROWS))}
    except Unavailable:
        raise
    except LakehouseError as error:
        return {"kind": type(error).__name__, "message": str(error)}
    return unfit


def rows_of(said: dict[str, Any] | None) -> Iterator[pa.RecordBatch]:
    """The rows that an executor found. Raises what it told."""
    from lakehouse import errors

    if said is None:
        return
    if "kind" in said:
        raise getattr(errors, said["kind"], LakehouseError)(said["message"])
    yield from pa.ipc.open_stream(base64.b64decode(said["rows"]))


def _text(rows: pa.RecordBatch) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return base64.b64encode(sink.getvalue()).decode()
