"""Why the scores of two tables differ, where that can be told from the tables: counted, never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.operations.distances import Distances, is_integer_made_float
from lakehouse.schemas import INPUT_VERSION

_LEAST = 0.5
"""The part of the differing rows that a detour has to explain before it is named."""
_EXACT = 2**53
"""Beyond this not every integer is a 64-bit float."""
_VERSIONS = 5

Reason = dict[str, Any]
"""`reason`: what it is; `column`: ours; `rows` that it explains `of` so many; `text`: in words."""


def of_numbers(name: str, column: str, found: Distances, kinds: tuple[pa.DataType, pa.DataType]) -> Iterator[Reason]:
    """The detours that explain the differences of two columns of numbers, of these types: ours, theirs."""
    digits, rounded = found.digits
    told = [
        ("null detour", found.integers, f"{column} is {kinds[1]} there and {kinds[0]} here: " + _PANDAS),
        ("float32", found.single, f"{column} is ours kept in 32 bits"),
        ("rounding", rounded, f"{column} is ours rounded to {digits} digits"),
    ]
    for reason, rows, text in told:
        if rows and rows >= _LEAST * found.differing:
            yield _reason(reason, name, rows, found.differing, text)
            return  # what is true of most rows; another detour would only be true by chance


_PANDAS = "integers that became floats, as pandas makes them where there are nulls, and were rounded"


def of_kept(name: str, column: str, own: pa.ChunkedArray, theirs: pa.ChunkedArray) -> Iterator[Reason]:
    """Whether an integer that came along is a float there, so that a model was given floats."""
    nulls = theirs.null_count + (pc.sum(pc.is_nan(theirs)).as_py() or 0)
    rounded = pc.sum(pc.greater(pc.abs_checked(pc.fill_null(own, 0)), _EXACT)).as_py() or 0
    text = (
        f"{column} is {theirs.type} there and {own.type} here, with {nulls:,} nulls: integers that became floats, as "
        f"pandas makes them where there are nulls; {rounded:,} of them are too large to have stayed what they were"
    )
    yield _reason("null detour", name, rounded, len(own), text)


def of_keys(
    name: str, here: pa.Table, there: pa.Table, matched: pa.Table, kinds: tuple[pa.DataType, pa.DataType]
) -> Iterator[Reason]:
    """Whether a key that is an integer here is a float there; `here`, `there`: rows of which one side alone has it."""
    if not is_integer_made_float(*kinds):
        return
    as_float = here[name].cast(pa.float64(), safe=False).cast(pa.int64(), safe=False)
    lost = pc.sum(pc.is_in(as_float, there[name].combine_chunks().cast(pa.int64()))).as_py() or 0
    doubtful = pc.sum(pc.greater(pc.abs(matched[name]), _EXACT)).as_py() or 0
    if lost or doubtful:
        text = (
            f"the key {name} is {kinds[1]} there and {kinds[0]} here: {lost:,} keys of one side only are the other's, "
            f"rounded, and {doubtful:,} that were matched are so large that they may be another row's"
        )
        yield _reason("null detour", name, lost, here.num_rows, text)


def of_versions(
    name: str, column: str, own: pa.ChunkedArray, theirs: pa.ChunkedArray, differs: Any
) -> Iterator[Reason]:
    """Which versions the scores of either side are of, where they are not the same."""
    sides = pa.table({"here": _text(own), "there": _text(theirs), "differs": pa.array(differs.astype(np.int64))})
    counted = sides.group_by(["here", "there"]).aggregate([("differs", "sum"), ([], "count_all")]).to_pylist()
    other = [pair for pair in counted if pair["here"] != pair["there"]]
    if not other:
        return
    what = "input version" if name.lower() == INPUT_VERSION else "model version"
    most = sorted(other, key=lambda pair: -pair["count_all"])[:_VERSIONS]
    said = ", ".join(f"{p['here']} here and {p['there']} there in {p['count_all']:,} rows" for p in most)
    explained, differing = sum(p["differs_sum"] for p in other), int(differs.sum())
    whole = sum(p["count_all"] for p in other)
    yield _reason(
        f"other {what}", name, explained, differing, f"{column}: {said}{', …' if len(other) > len(most) else ''}"
    ) | {"matched": len(own), "other": whole}


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Versions as text; a whole number that became a float is what it was."""
    if pa.types.is_floating(column.type):
        whole = pc.if_else(pc.is_nan(column), None, column)
        try:
            column = whole.cast(pa.int64())
        except pa.ArrowInvalid:
            column = whole
    return column.cast(pa.string())


def _reason(reason: str, column: str, rows: int, of: int, text: str) -> Reason:
    return {"reason": reason, "column": column, "rows": rows, "of": of, "text": text}


def in_words(found: Sequence[Reason]) -> list[str]:
    """A line a reason."""
    return [f"{one['reason']}: {one['text']} ({one['rows']:,} of {one['of']:,} rows)" for one in found]
