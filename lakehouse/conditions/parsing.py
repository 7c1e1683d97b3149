"""Reads a `where`: its comparisons, or a reason why Spark has to evaluate it.

Comparisons on which Spark and Arrow could disagree are left to Spark (the `frame` carrier), never approximated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakehouse.conditions import Comparison, Where
from lakehouse.errors import ConfigError, nearest
from lakehouse.schemas import column_of

_OPS: Mapping[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_UNSAFE = (exp.Query, exp.DDL, exp.DML, exp.Command, exp.AggFunc, exp.Window, exp.Parameter, exp.Placeholder)
_FICKLE = {
    "rand", "randn", "random", "uuid", "now", "current_date", "current_timestamp", "current_user", "localtimestamp",
    "unix_timestamp", "monotonically_increasing_id", "spark_partition_id", "input_file_name", "reflect",
    "java_method", "try_reflect", "shuffle", "user", "session_user", "current_database", "current_catalog",
    "system_user", "current_schema", "current_timezone", "current_time", "curdate", "getdate", "sysdate", "uniform",
    "randstr", "input_file_block_start", "input_file_block_length", "version", "current_path",
    "uuid_string", "normal", "zipf", "seq1", "seq2", "seq4", "seq8", "last_query_id", "current_role", "current_session",
    "current_account", "current_warehouse", "current_region", "current_transaction",
}  # fmt: skip


class _Hard(Exception):
    """The expression is fine, but only Spark can evaluate it."""


def parse_where(text: str, schema: pa.Schema) -> Where:
    """Parse a `where` against the table's schema.

    Raises ConfigError for anything but one boolean expression over the table's columns that gives the same
    answer every time: no statements, subqueries, aggregates, or functions of the moment.
    """
    tree = _parse(text)
    columns = tuple(dict.fromkeys(_resolve(column, schema) for column in tree.find_all(exp.Column)))
    try:
        terms = tree.flatten() if isinstance(tree, exp.And) else [tree]
        comparisons = [_comparison(simple, schema) for term in terms for simple in _ends(term)]
        return Where(text, columns, tuple(comparisons), None)
    except _Hard as hard:
        return Where(text, columns, (), str(hard))


def _parse(text: str) -> exp.Expr:
    try:
        statements = sqlglot.parse(text, read="spark")
    except SqlglotError as error:
        raise ConfigError(f"source.where: {text!r} is not an SQL condition: {str(error).splitlines()[0]}") from error
    tree = statements[0] if len(statements) == 1 else None
    if tree is None or isinstance(tree, (exp.Semicolon, exp.Alias, exp.Tuple)):
        raise ConfigError(f"source.where: {text!r} must be one SQL condition, without semicolons or lists")
    for node in tree.walk():
        if isinstance(node, _UNSAFE) or is_fickle(node):
            raise ConfigError(
                f"source.where: {text!r} is not safe: {node.sql('spark')!r} is not allowed; compare columns of the "
                "table with fixed values, and use {date} for the run's date"
            )
        if isinstance(node, exp.Sub) and re.fullmatch(r"\d{4} - \d\d? - \d\d?", node.sql("spark")):
            day = node.sql("spark").replace(" ", "")
            raise ConfigError(
                f"source.where: {text!r}: {day} without quotes is arithmetic, a date must be quoted: '{day}'"
            )
    if isinstance(tree, (exp.Literal, exp.Identifier)) or not _boolean(tree):
        raise ConfigError(f"source.where: {text!r} is not a condition: compare a column with a value")
    return tree


def is_fickle(node: exp.Expr) -> bool:
    """Whether it is a function, or a literal, whose value differs from one moment, user or session to another."""
    name = node.name if isinstance(node, exp.Anonymous) else node.key
    calls = (name.lower(), *(n.lower() for n in node.sql_names())) if isinstance(node, exp.Func) else (name,)
    return bool(_FICKLE.intersection(calls)) or _is_moment(node)


def _is_moment(node: exp.Expr) -> bool:
    """Whether it is one of Spark's literals of the moment, such as DATE 'today' or TIMESTAMP 'now'."""
    literal = isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.this.is_string
    return literal and re.match(r"\s*(now|today|tomorrow|yesterday)\b", str(node.this.this), re.IGNORECASE) is not None


def _boolean(tree: exp.Expr) -> bool:
    kinds = (exp.Predicate, exp.Connector, exp.Not, exp.Paren, exp.Column, exp.Boolean, exp.Is, exp.Func)
    return isinstance(tree, kinds)


def _resolve(column: exp.Column, schema: pa.Schema) -> str:
    found = column_of(schema, column.parts[0].name, case_insensitive=True)
    if found is None:
        name = column.parts[0].name
        raise ConfigError(f"source.where: the table has no column {name!r}, {nearest(name, schema.names)}")
    return found


def _ends(term: exp.Expr) -> list[exp.Expr]:
    """A BETWEEN as the two comparisons it stands for."""
    if not isinstance(term, exp.Between) or term.args.get("symmetric"):
        return [term]
    return [exp.GTE(this=term.this, expression=term.args["low"]), exp.LTE(this=term.this, expression=term.args["high"])]


def _comparison(term: exp.Expr, schema: pa.Schema) -> Comparison:
    while isinstance(term, exp.Paren):
        term = term.this
    if isinstance(term, exp.Is) and isinstance(term.expression, exp.Null):
        return Comparison(_column(term.this, schema), "is_null")
    if isinstance(term, exp.Not) and isinstance(term.this, exp.Is) and isinstance(term.this.expression, exp.Null):
        return Comparison(_column(term.this.this, schema), "not_null")
    if isinstance(term, exp.In) and term.expressions:
        column = _column(term.this, schema)
        kind = schema.field(column).type
        if pa.types.is_floating(kind):
            raise _Hard(f"IN over the floating-point column {column!r}")
        return Comparison(column, "in", tuple(_value(v, column, kind) for v in term.expressions))
    if type(term) in _OPS:
        op, left, right = _OPS[type(term)], term.this, term.expression
        if isinstance(right, exp.Column):
            op, left, right = _MIRRORED.get(op, op), right, left
        column = _column(left, schema)
        return Comparison(column, op, (_value(right, column, schema.field(column).type),))
    raise _Hard(f"{term.sql('spark')!r} is not a simple comparison")


def _column(node: exp.Expr, schema: pa.Schema) -> str:
    if isinstance(node, exp.Column) and len(node.parts) == 1:
        return _resolve(node, schema)
    raise _Hard(f"{node.sql('spark')!r} is not a plain column")


def _value(node: exp.Expr, column: str, kind: pa.DataType) -> Any:
    """The literal as a value of the column's own type, where Spark would compare in that type too."""
    sign = 1
    if isinstance(node, exp.Neg):
        sign, node = -1, node.this
    dated = isinstance(node, (exp.Cast, exp.DateStrToDate, exp.TsOrDsToDate)) and not node.args.get("format")
    if dated and pa.types.is_date(kind):
        is_date = isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.DATE
        node = node.this if is_date or not isinstance(node, exp.Cast) else node
    if isinstance(node, exp.Boolean) and pa.types.is_boolean(kind):
        return bool(node.this)
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if node.is_string and pa.types.is_string(kind):
            return text
        if node.is_string and pa.types.is_date(kind) and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            try:
                return date.fromisoformat(text)
            except ValueError as error:
                raise ConfigError(f"source.where: {text!r} is no date (column {column!r})") from error
        if not node.is_string and pa.types.is_integer(kind) and re.fullmatch(r"\d+", text):
            return _require_range(sign * int(text), kind, column)
        # Spark refuses a number beyond doubles, and one of more digits than a decimal has.
        if not node.is_string and kind == pa.float64() and math.isfinite(float(text)) and len(text) <= 38:
            return sign * float(text)
    raise _Hard(f"comparing {column!r} ({kind}) with {node.sql('spark')}")


def _require_range(value: int, kind: pa.DataType, column: str) -> int:
    if not -(1 << (kind.bit_width - 1)) <= value < 1 << (kind.bit_width - 1):
        raise _Hard(f"{value} is outside the range of {column!r} ({kind})")
    return value
