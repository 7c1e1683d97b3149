"""How two models' values of one prediction compare: figures that add up over batches, workers and segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

_MOST_PAIRS = 4096
_COUNTED = 1 << 16
"""Up to so many places pairs are counted in an array; beyond, they are sorted."""


@dataclass
class Pairs:
    """How two models' values of one prediction compare, over `rows` rows that both have a value for.

    Sums are of the first model's values, the second's, and absolute differences, 0 unless `numeric`. `flips`: rows with
    another label, None where the values are no labels; `labels` counts pairs of labels, None where there are too many
    of them too. `missing`: further rows for which only the first model has a value.
    """

    rows: int = 0
    missing: int = 0
    own: float = 0.0
    theirs: float = 0.0
    apart: float = 0.0
    furthest: float = 0.0
    flips: int | None = None
    labels: Counter[tuple[str, str]] | None = None
    numeric: bool = False

    def merge(self, more: Pairs) -> None:
        """Add what another worker, batch or segment counted."""
        self.rows, self.missing = self.rows + more.rows, self.missing + more.missing
        self.own, self.theirs = self.own + more.own, self.theirs + more.theirs
        self.apart, self.furthest = self.apart + more.apart, max(self.furthest, more.furthest)
        self.numeric |= more.numeric
        if more.flips is None:
            return
        too_many = more.labels is None or (self.flips is not None and self.labels is None)
        self.flips = (self.flips or 0) + more.flips
        labels = None if too_many else (self.labels or Counter()) + (more.labels or Counter())
        self.labels = None if labels is None or len(labels) > _MOST_PAIRS else labels

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        labels = None if self.labels is None else [[*pair, count] for pair, count in sorted(self.labels.items())]
        return {**vars(self), "labels": labels}

    @staticmethod
    def from_dict(dumped: Mapping[str, Any]) -> Pairs:
        """What `to_dict` has made."""
        labels = dumped["labels"]
        counted = None if labels is None else Counter({(own, theirs): count for own, theirs, count in labels})
        return Pairs(**{**dumped, "labels": counted})

    @property
    def shift(self) -> float | None:
        """The second model's mean less the first's; None for what is no number."""
        return (self.theirs - self.own) / self.rows if self.numeric and self.rows else None


def pairs_of(own: pa.Array, theirs: pa.Array, codes: Any, segments: int) -> list[Pairs]:
    """How two columns compare in each of so many segments; `codes`: the number of each row's."""
    have = _present(own)
    both = have & _present(theirs)
    missing = np.bincount(codes[have & ~both], minlength=segments)
    if not both.all():
        there = pa.array(both)
        own, theirs, codes = own.filter(there), theirs.filter(there), codes[both]
    rows = np.bincount(codes, minlength=segments)
    found = [Pairs(int(many), int(few)) for many, few in zip(rows, missing, strict=True)]
    if _is_number(own.type) and _is_number(theirs.type):
        a, b = (column.cast(pa.float64()).to_numpy(zero_copy_only=False) for column in (own, theirs))
        _measure(found, a, b, codes)
    if _is_label(own.type) and _is_label(theirs.type):
        _count(found, own, theirs, codes)
    return found


def _measure(found: Sequence[Pairs], a: Any, b: Any, codes: Any) -> None:
    """Add sums, distances and the largest of these to each segment."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(a - b)
    if np.isnan(distance.max(initial=0.0)):  # infinities that are equal are no distance apart
        distance[a == b] = 0.0
    sums: Any = [[float(values.sum())] for values in (a, b, distance)]
    furthest = np.full(len(found), distance.max(initial=0.0))
    if len(found) > 1:
        sums = [np.bincount(codes, values, minlength=len(found)) for values in (a, b, distance)]
        furthest = np.zeros(len(found))
        np.maximum.at(furthest, codes, distance)
    for pairs, own, theirs, apart, most in zip(found, *sums, furthest, strict=True):
        pairs.numeric, pairs.own, pairs.theirs = pairs.rows > 0, float(own), float(theirs)
        pairs.apart, pairs.furthest = float(apart), float(most)


def _count(found: Sequence[Pairs], own: pa.Array, theirs: pa.Array, codes: Any) -> None:
    """Count the pairs of labels in each segment, and those that differ."""
    first, second = (column.dictionary_encode() for column in (own, theirs))
    names = [[_text(value) for value in column.dictionary.to_pylist()] for column in (first, second)]
    width, height = (max(len(known), 1) for known in names)
    place = codes.astype(np.int64) * (width * height)
    place += first.indices.to_numpy().astype(np.int64) * height + second.indices.to_numpy()
    if width * height * len(found) <= _COUNTED:
        counts = np.bincount(place)
        places = np.flatnonzero(counts)
        counts = counts[places]
    else:
        places, counts = np.unique(place, return_counts=True)
    for pairs in found:
        pairs.flips, pairs.labels = 0, Counter()
    for at, count in zip(places.tolist(), counts.tolist(), strict=True):
        segment, pair = divmod(at, width * height)
        one, other, pairs = names[0][pair // height], names[1][pair % height], found[segment]
        pairs.flips = (pairs.flips or 0) + (count if one != other else 0)
        if pairs.labels is not None:
            pairs.labels[one, other] += count
            pairs.labels = pairs.labels if len(pairs.labels) <= _MOST_PAIRS else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_integer(kind))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _present(column: pa.Array) -> Any:
    """Which rows have a value: neither null nor NaN."""
    present = np.ones(len(column), bool)
    if column.null_count:
        present = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type):
        present &= ~np.isnan(column.to_numpy(zero_copy_only=False))
    return present
