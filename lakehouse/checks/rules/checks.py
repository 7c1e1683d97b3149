"""What a row rule checks, compiled: columns, and values of the columns' own types."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from lakehouse.checks.rules.bounds import Span
from lakehouse.checks.rules.patterns import Pattern
from lakehouse.checks.rules.row_conditions import Condition
from lakehouse.checks.rules.suite import Expectation


@dataclass(frozen=True)
class Nullity:
    """Values must be null, or must not."""

    column: str
    null: bool


@dataclass(frozen=True)
class Members:
    """Values must be in a set, or must not; `vague`: the set has a null, so that "not in it" can't be decided."""

    column: str
    values: pa.Array
    wanted: bool
    vague: bool


@dataclass(frozen=True)
class Matches:
    """Texts must be found by any (or `every`) of the patterns; `wanted` False: must not be."""

    column: str
    patterns: tuple[Pattern, ...]
    every: bool
    wanted: bool


@dataclass(frozen=True)
class Lengths:
    """Texts must have so many characters."""

    span: Span


@dataclass(frozen=True)
class Parsed:
    """Texts must be JSON, or (`form`) times in this format of `strptime`."""

    column: str
    form: str | None


@dataclass(frozen=True)
class Equal:
    """All columns must have the value of the first; null equals null."""

    columns: tuple[str, ...]
    kind: pa.DataType


@dataclass(frozen=True)
class Differ:
    """No two columns may have the same value; null equals null."""

    columns: tuple[str, ...]
    kind: pa.DataType


@dataclass(frozen=True)
class Greater:
    """The first column must be greater than the second, or also equal."""

    columns: tuple[str, str]
    kind: pa.DataType
    equal: bool


@dataclass(frozen=True)
class PairIn:
    """Two columns' values must be one of the pairs; null equals null."""

    columns: tuple[str, str]
    pairs: tuple[tuple[pa.Array | None, pa.Array | None], ...]  # the values of a side, None for null


@dataclass(frozen=True)
class Sum:
    """The columns' sum in a row, where null is 0, must be in a span of `kind`; `short`: the same of int64."""

    columns: tuple[str, ...]
    kind: pa.DataType
    span: Span
    short: Span | None


Check = Span | Nullity | Members | Matches | Lengths | Parsed | Equal | Differ | Greater | PairIn | Sum


@dataclass(frozen=True)
class RowRule:
    """An expectation that each row meets or fails. Picklable.

    `leaves_out`: rows that don't count, those where "any" or "all" of its own columns are null, or "none".
    """

    expectation: Expectation
    columns: tuple[str, ...]
    own: tuple[str, ...]
    check: Check
    condition: Condition | None
    leaves_out: str
