"""Divide a suite: row rules, table rules, and what only Great Expectations can run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.checks.rules.arguments import arguments
from lakehouse.checks.rules.catalogue import CATALOGUE
from lakehouse.checks.rules.checks import RowRule
from lakehouse.checks.rules.refused import InvalidExpectation, NeedsGX
from lakehouse.checks.rules.row_conditions import PANDAS, Condition, columns_named, engine_text, parse_condition
from lakehouse.checks.rules.rows import row_rule
from lakehouse.checks.rules.suite import Expectation
from lakehouse.checks.rules.tables import TableRule, table_rule
from lakehouse.errors import ConfigError
from lakehouse.schemas import column_of, nearest_column


@dataclass(frozen=True)
class Delegated:
    """An expectation that only Great Expectations can run, and why.

    `columns`: what it looks at, all where none is named; `condition`: its row condition, `untold` where that is
    one that only an engine can evaluate.
    """

    expectation: Expectation
    columns: tuple[str, ...]
    reason: str
    condition: Condition | None = None
    untold: bool = False


@dataclass(frozen=True)
class Compiled:
    """A suite's expectations by how they are evaluated."""

    rows: tuple[RowRule, ...]
    tables: tuple[TableRule, ...]
    others: tuple[Delegated, ...]


def compile_suite(expectations: Iterable[Expectation], schema: pa.Schema) -> Compiled:
    """Compile expectations for a table of this schema.

    Raises ConfigError, with the expectation's place, for arguments that are unknown, missing or not allowed, for
    columns that the table doesn't have, and for values that a column's type can't be compared with.
    """
    made = [_compile(expectation, schema) for expectation in expectations]
    return Compiled(
        tuple(one for one in made if isinstance(one, RowRule)),
        tuple(one for one in made if isinstance(one, TableRule)),
        tuple(one for one in made if isinstance(one, Delegated)),
    )


def _compile(expectation: Expectation, schema: pa.Schema) -> RowRule | TableRule | Delegated:
    kind = CATALOGUE[expectation.type]
    given: Mapping[str, Any] = {}
    try:
        given = arguments(expectation)
        if kind.way == "GX":
            raise NeedsGX(kind.note)
        return row_rule(expectation, given, schema) if kind.way == "row" else table_rule(expectation, given, schema)
    except InvalidExpectation as wrong:
        raise _sort_in(expectation, wrong) from wrong
    except NeedsGX as reason:
        return _delegate(expectation, given, schema, str(reason))


def _sort_in(expectation: Expectation, wrong: InvalidExpectation) -> ConfigError:
    return ConfigError(f"{expectation.where}: {expectation.type}: {wrong}")


def _delegate(expectation: Expectation, given: Mapping[str, Any], schema: pa.Schema, reason: str) -> Delegated:
    """What only Great Expectations can run, with all the columns that it will look at."""
    stated, parser, untold = given.get("row_condition"), given.get("condition_parser"), ""
    try:
        condition = parse_condition(stated, parser, schema)
    except InvalidExpectation as wrong:
        raise _sort_in(expectation, wrong) from wrong
    except NeedsGX as hard:
        condition, untold = None, str(hard)
    own = _named_columns(expectation, given, schema)
    read: tuple[str, ...] | None = condition.columns if condition else ()
    if untold:
        spelled = columns_named(stated, parser)
        found = None if spelled is None else [column_of(schema, name, case_insensitive=True) for name in spelled]
        read = None if found is None else tuple(name for name in found if name is not None)
    columns = () if not own or read is None else tuple(dict.fromkeys((*own, *read)))
    return Delegated(expectation, columns, untold or reason, condition, bool(untold))


def delegate_overflowed(rule: TableRule) -> Delegated:
    """A table rule that met more distinct values than are counted in the pass."""
    return Delegated(rule.expectation, rule.columns, "too many distinct values to count in the pass", rule.condition)


def require_engine(compiled: Compiled, engine: str) -> None:
    """Raise ConfigError for conditions in SQL that only Spark can evaluate, where the engine is another."""
    for other in compiled.others:
        expectation = other.expectation
        given, parser = (expectation.kwargs.get(key) for key in ("row_condition", "condition_parser"))
        text = engine_text(given, parser)
        if engine != "spark" and other.untold and text is not None and parser != PANDAS:
            raise ConfigError(
                f"{expectation.where}: {expectation.type}: only Spark can evaluate the row_condition {text!r} "
                f"({other.reason}): use --engine spark, or write comparisons with values, joined by AND or OR"
            )


def columns_as_spelled(expectation: Expectation) -> list[str]:
    """The columns that an expectation names, those of its condition included, as it spells them."""
    kwargs = expectation.kwargs
    given = [kwargs.get(key) for key in ("column", "column_A", "column_B")]
    given += [name for key in ("column_list", "column_set") for name in kwargs.get(key) or ()]
    inner = columns_named(kwargs.get("row_condition"), kwargs.get("condition_parser"))
    return [name for name in (*given, *(inner or ())) if isinstance(name, str)]


def _named_columns(expectation: Expectation, given: Mapping[str, Any], schema: pa.Schema) -> tuple[str, ...]:
    """The table's columns that an expectation is about, those of struct fields included."""
    names = [given.get(key) for key in ("column", "column_A", "column_B")]
    names += [name for key in ("column_list", "column_set") for name in given.get(key) or ()]
    tops = [str(name) if name in schema.names else str(name).partition(".")[0] for name in names if name is not None]
    for top in tops:
        if top not in schema.names:
            place = f"{expectation.where}: {expectation.type}"
            raise ConfigError(f"{place}: no column {top!r}, {nearest_column(top, schema)}")
    return tuple(dict.fromkeys(tops))
