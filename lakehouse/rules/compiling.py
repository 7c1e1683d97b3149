"""Divide a suite: row rules, table rules, and what only Great Expectations can run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.errors import ConfigError, nearest
from lakehouse.rules.arguments import arguments
from lakehouse.rules.catalogue import CATALOGUE
from lakehouse.rules.checks import RowRule
from lakehouse.rules.refused import OnlyGX, Wrong
from lakehouse.rules.rows import row_rule
from lakehouse.rules.suite import Expectation
from lakehouse.rules.tables import TableRule, table_rule


@dataclass(frozen=True)
class Other:
    """An expectation that only Great Expectations can run, and why."""

    expectation: Expectation
    columns: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Compiled:
    """A suite's expectations by how they are evaluated."""

    rows: tuple[RowRule, ...]
    tables: tuple[TableRule, ...]
    others: tuple[Other, ...]


def compile_suite(expectations: Iterable[Expectation], schema: pa.Schema) -> Compiled:
    """Compile expectations for a table of this schema.

    Raises ConfigError, with the expectation's place, for arguments that are unknown, missing or not allowed, for
    columns that the table doesn't have, and for values that a column's type can't be compared with.
    """
    made = [_compiled(expectation, schema) for expectation in expectations]
    return Compiled(
        tuple(one for one in made if isinstance(one, RowRule)),
        tuple(one for one in made if isinstance(one, TableRule)),
        tuple(one for one in made if isinstance(one, Other)),
    )


def _compiled(expectation: Expectation, schema: pa.Schema) -> RowRule | TableRule | Other:
    kind = CATALOGUE[expectation.type]
    given: Mapping[str, Any] = {}
    try:
        given = arguments(expectation)
        if kind.way == "GX":
            raise OnlyGX(kind.note)
        return row_rule(expectation, given, schema) if kind.way == "row" else table_rule(expectation, given, schema)
    except Wrong as wrong:
        raise ConfigError(f"{expectation.where}: {expectation.type}: {wrong}") from wrong
    except OnlyGX as reason:
        return Other(expectation, _named(expectation, given, schema), str(reason))


def _named(expectation: Expectation, given: Mapping[str, Any], schema: pa.Schema) -> tuple[str, ...]:
    """The table's columns that an expectation names, those of struct fields included."""
    names = [given.get(key) for key in ("column", "column_A", "column_B")]
    names += [name for key in ("column_list", "column_set") for name in given.get(key) or ()]
    tops = [str(name) if name in schema.names else str(name).partition(".")[0] for name in names if name is not None]
    for top in tops:
        if top not in schema.names:
            place = f"{expectation.where}: {expectation.type}"
            raise ConfigError(f"{place}: no column {top!r}, {nearest(top, schema.names)}")
    return tuple(dict.fromkeys(tops))
