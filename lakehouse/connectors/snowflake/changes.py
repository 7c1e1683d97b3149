"""Which tables a query in Snowflake reads, and what tells their rows of now from those of another time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.scope import traverse_scope

from lakehouse.conditions.parsing import is_fickle
from lakehouse.connectors.snowflake.names import Table, quote, text_literal
from lakehouse.connectors.snowflake.sessions import Session
from lakehouse.errors import ConfigError

_OF_THE_MOMENT = ("current_", "local")
"""How the names of functions begin that tell of the session or the clock."""


def tables_in(query: str, complete: Callable[[list[str]], Table]) -> list[Table] | None:
    """The tables and views that a query, or a view's CREATE, reads.

    `complete` makes a table of the one to three parts of a name. None where it can't be told which they are, or whether
    the query would give the same again though they don't change: functions of the moment, those of the user's own,
    samples, sequences. Tables that go by the name of a CTE are none.
    """
    try:
        tree = sqlglot.parse_one(query, read="snowflake")
        tree = tree.expression if isinstance(tree, exp.Create) else tree
        if not isinstance(tree, exp.Query) or any(map(_may_differ, tree.walk())):
            return None
        tree = normalize_identifiers(tree, dialect="snowflake")
        read = [s for scope in traverse_scope(tree) for s in scope.sources.values() if isinstance(s, exp.Table)]
    except SqlglotError:
        return None  # Snowflake will judge it
    ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
    names: dict[tuple[str, ...], None] = {}
    for table in tree.find_all(exp.Table):
        if any(table is one for one in read):
            if not all(isinstance(part, exp.Identifier) for part in table.parts):
                return None  # a stage, or a name that is made when the query runs
            names[tuple(part.name for part in table.parts)] = None
        elif table.db or table.name not in ctes:
            return None
    return [complete(list(parts)) for parts in names]


def _may_differ(node: exp.Expr) -> bool:
    """Whether what it gives may differ though no table changes, as far as that can be told."""
    if isinstance(node, exp.Anonymous | exp.TableSample | exp.Changes | exp.Parameter | exp.Placeholder | exp.Command):
        return True  # an unknown function may be the user's own
    if isinstance(node, exp.HistoricalData):
        return str(node.args.get("kind")).upper() not in ("TIMESTAMP", "STATEMENT")
    if isinstance(node, exp.Column):
        return node.name.upper() == "NEXTVAL"
    named = node.sql_names() if isinstance(node, exp.Func) else ()
    return is_fickle(node) or any(name.lower().startswith(_OF_THE_MOMENT) for name in named)


def last_changes(session: Session, tables: Sequence[Table], at: str | None = None) -> dict[str, str] | None:
    """By table what differs once its rows do: its last change and, of a view, its definition. `at` stands for a change.

    None where that can't be known: a view over functions of the moment, a table that is shared or not seen.
    """
    seen = {}
    for table in tables:
        try:
            definition = _definition(session, table)
            ((change,),) = (
                [(at,)] if at else session.run(f"SELECT SYSTEM$LAST_CHANGE_COMMIT_TIME({text_literal(table.sql)})")
            )
        except ConfigError:  # a kind of table that doesn't tell
            return None
        if definition is None or change is None:
            return None
        seen[table.sql] = f"{change} {definition}".strip()
    return seen


def _definition(session: Session, table: Table) -> str | None:
    """What a view is made of, all the way down; empty for a table, None where it can't be told."""
    schema = ".".join(map(quote, table.parts[:2]))
    listed = session.run(f"SHOW TERSE OBJECTS LIKE {text_literal(table.name)} IN SCHEMA {schema}")
    kind = next((str(row[2]) for row in listed if row[1] == table.name), None)
    if kind is None or "VIEW" not in kind:
        return None if kind is None else ""
    listed = session.run(f"SHOW VIEWS LIKE {text_literal(table.name)} IN SCHEMA {schema}")
    own = next((str(row[7] or "") for row in listed if row[1] == table.name), "")
    inner = tables_in(own, lambda parts: Table(table.connection, *[*table.parts[:2], *parts][-3:]))
    if inner is None:
        return None
    parts = [own, *(_definition(session, one) for one in inner)]
    return None if None in parts else "\n".join(filter(None, parts))


def tables_beside(session: Session, table: Table) -> list[str]:
    """The names of tables and views in a table's schema, as far as the role may see them."""
    try:
        listed = session.run(f"SHOW TERSE OBJECTS IN SCHEMA {'.'.join(map(quote, table.parts[:2]))}")
    except ConfigError:
        return []
    return [str(row[1]) for row in listed]
