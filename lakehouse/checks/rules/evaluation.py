"""Row rules at work: which rows of a batch fail, by Arrow kernels and three-valued logic.

A check answers true for a row that fails, and null or false for one that doesn't: as GX counts on Spark, what can't
be decided doesn't fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks.rules.bounds import Span, outside
from lakehouse.checks.rules.checks import (
    Differ,
    Equal,
    Greater,
    Lengths,
    Matches,
    Members,
    Nullity,
    PairIn,
    Parsed,
    RowRule,
    Sum,
)
from lakehouse.checks.rules.matching import ask_once_a_value, matches
from lakehouse.checks.rules.row_conditions import mask


def unexpected(rule: RowRule, batch: pa.RecordBatch) -> tuple[int, pa.BooleanArray | None]:
    """Evaluate a rule on a batch that has its columns.

    Returns how many rows count, and which rows fail: as many booleans as the batch has rows, none of them null, or
    None when no row fails.
    """
    counting = _rows_that_count(rule, batch)
    evaluated = batch.num_rows if counting is None else counting.true_count
    if not evaluated:
        return 0, None
    failing = _FAILING[type(rule.check)](rule.check, batch)
    if failing is None:
        return evaluated, None
    if failing.null_count:
        failing = pc.fill_null(failing, False)
    if counting is not None:
        failing = pc.and_(failing, counting)
    return evaluated, failing if failing.true_count else None


def _rows_that_count(rule: RowRule, batch: pa.RecordBatch) -> pa.Array | None:
    """The rows that count, None for all."""
    parts = [] if rule.condition is None else [mask(rule.condition, batch)]
    arrays = [batch.column(name) for name in rule.own]
    if rule.leaves_out == "any":
        parts += [array.is_valid() for array in arrays if array.null_count]
    elif rule.leaves_out == "all" and all(array.null_count for array in arrays):
        parts.append(reduce(pc.or_, [array.is_valid() for array in arrays]))
    return reduce(pc.and_, parts) if parts else None


def observed(rule: RowRule, batch: pa.RecordBatch, rows: np.ndarray[Any, np.dtype[np.int64]]) -> pa.StringArray:
    """The rule's own columns at these rows as text, null for null; of several columns, joined by a comma."""
    texts = [_text(batch.column(name).take(pa.array(rows, pa.int64()))) for name in rule.own]
    if len(texts) == 1:
        return texts[0]
    return pc.binary_join_element_wise(*texts, ", ", null_handling="replace", null_replacement="null")


def _text(array: pa.Array) -> pa.Array:
    try:
        return array.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # nested columns; bytes that are no text
        return pa.array([None if v is None else str(v) for v in array.to_pylist()], pa.string())


def _nullity(check: Nullity, batch: pa.RecordBatch) -> pa.Array | None:
    array = batch.column(check.column)
    if check.null:
        return array.is_valid() if array.null_count < len(array) else None
    return array.is_null() if array.null_count else None


def _within(check: Span, batch: pa.RecordBatch) -> pa.Array | None:
    return outside(check, batch.column(check.column))


def _members(check: Members, batch: pa.RecordBatch) -> pa.Array | None:
    if check.wanted and check.vague:
        return None
    array = batch.column(check.column)
    known = pc.is_in(array, check.values) if len(check.values) else None
    if check.wanted:
        return array.is_valid() if known is None else pc.invert(known)
    return known


def _matches(check: Matches, batch: pa.RecordBatch) -> pa.Array | None:
    array = batch.column(check.column)
    join = pc.and_ if check.every else pc.or_
    met = reduce(join, [matches(pattern, array) for pattern in check.patterns])
    return pc.invert(met) if check.wanted else met


def _lengths(check: Lengths, batch: pa.RecordBatch) -> pa.Array | None:
    return outside(check.span, pc.utf8_length(batch.column(check.span.column)).cast(pa.int64()))


def _parses(check: Parsed, batch: pa.RecordBatch) -> pa.Array | None:
    holds = _is_json if check.form is None else _is_time(check.form)
    return pc.invert(ask_once_a_value(batch.column(check.column), holds))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_time(form: str) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            datetime.strptime(text, form)  # noqa: DTZ007  # only whether it can be read
        except ValueError:
            return False
        return True

    return holds


def _as(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    array = batch.column(name)
    return array if array.type == kind else array.cast(kind, safe=False)


def _same(left: pa.Array, right: pa.Array) -> pa.Array:
    """Equality where null equals null, and NaN equals NaN: never null."""
    same = pc.equal(left, right)
    if pa.types.is_floating(left.type):
        same = pc.or_(same, pc.and_(pc.is_nan(left), pc.is_nan(right)))
    if same.null_count:
        same = pc.or_(pc.fill_null(same, False), pc.and_(left.is_null(), right.is_null()))
    return same


def _equal(check: Equal, batch: pa.RecordBatch) -> pa.Array | None:
    first, *others = (_as(batch, name, check.kind) for name in check.columns)
    return pc.invert(reduce(pc.and_, [_same(first, other) for other in others]))


def _differ(check: Differ, batch: pa.RecordBatch) -> pa.Array | None:
    arrays = [_as(batch, name, check.kind) for name in check.columns]
    return reduce(pc.or_, [_same(left, right) for left, right in combinations(arrays, 2)])


def _greater(check: Greater, batch: pa.RecordBatch) -> pa.Array | None:
    left, right = (_as(batch, name, check.kind) for name in check.columns)
    met = pc.greater_equal(left, right) if check.equal else pc.greater(left, right)
    if pa.types.is_floating(check.kind):
        nan = pc.is_nan(left)
        met = pc.or_(met, nan if check.equal else pc.and_(nan, pc.invert(pc.is_nan(right))))
    return pc.invert(met)


def _pair_in(check: PairIn, batch: pa.RecordBatch) -> pa.Array | None:
    left, right = (batch.column(name) for name in check.columns)
    met = [pc.and_(_is(left, a), _is(right, b)) for a, b in check.pairs]
    return pc.invert(reduce(pc.or_, met))


def _is(array: pa.Array, values: pa.Array | None) -> pa.Array:
    return array.is_null() if values is None else pc.is_in(array, values)


def _sum(check: Sum, batch: pa.RecordBatch) -> pa.Array | None:
    arrays = [pc.fill_null(batch.column(name), 0) for name in check.columns]
    if check.short is not None:
        try:  # a sum that fits is exact, and ten times as fast
            total = reduce(pc.add_checked, [array.cast(pa.int64()) for array in arrays])
        except pa.ArrowInvalid:
            pass
        else:
            return outside(check.short, total)
    wide = [array.cast(check.kind) for array in arrays]
    return outside(check.span, reduce(_add, wide))


def _add(left: pa.Array, right: pa.Array) -> pa.Array:
    total = pc.add(left, right)
    return total.cast(left.type) if total.type != left.type else total


_FAILING: Mapping[type, Callable[[Any, pa.RecordBatch], pa.Array | None]] = {
    Nullity: _nullity,
    Span: _within,
    Members: _members,
    Matches: _matches,
    Lengths: _lengths,
    Parsed: _parses,
    Equal: _equal,
    Differ: _differ,
    Greater: _greater,
    PairIn: _pair_in,
    Sum: _sum,
}
