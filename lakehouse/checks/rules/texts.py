"""`row_condition` as a text: Spark's SQL or a query of pandas, read into the condition objects of Great Expectations.

Great Expectations hands such a text to its engine as it is. What isn't plain comparisons joined by AND and OR, or
would mean another thing to Spark, stays such a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakehouse.checks.rules.refused import NeedsGX
from lakehouse.errors import nearest
from lakehouse.schemas import column_of

_COMPARE: Mapping[type[exp.Expr], str] = {
    exp.EQ: "==", exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_DIGITS = re.compile(r"\d{1,15}(\.\d{1,15})?")


def columns_of(text: str) -> list[str] | None:
    """The columns that a text names, as it spells them; None where it can't be read."""
    tree = _parse(text)
    return None if tree is None else list(dict.fromkeys(c.parts[0].name for c in tree.find_all(exp.Column)))


def as_object(text: str, schema: pa.Schema, pandas: bool) -> dict[str, Any]:
    """The text as one of Great Expectations' condition objects. Raises OnlyGX where it can't be one.

    `pandas`: it is a query of pandas; taken where that means what SQL means, which tells null and NaN apart.
    """
    tree = _parse(text)
    if tree is None:
        raise NeedsGX(f"row_condition {text!r} can't be read as SQL")
    return _term(tree, schema, pandas)


def _parse(text: str) -> exp.Expr | None:
    try:
        statements = sqlglot.parse(text, read="spark")
    except SqlglotError:
        return None
    return statements[0] if len(statements) == 1 else None


def _term(node: exp.Expr, schema: pa.Schema, pandas: bool) -> dict[str, Any]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, (exp.And, exp.Or)):
        kind = "and" if isinstance(node, exp.And) else "or"
        return {"type": kind, "conditions": [_term(one, schema, pandas) for one in node.flatten()]}
    if isinstance(node, exp.Between) and not node.args.get("symmetric"):
        low, high = (
            cls(this=node.this, expression=node.args[key]) for cls, key in ((exp.GTE, "low"), (exp.LTE, "high"))
        )
        return {"type": "and", "conditions": [_term(one, schema, pandas) for one in (low, high)]}
    negated = isinstance(node, exp.Not)
    inner = node.this if negated else node
    if isinstance(inner, exp.Is) and isinstance(inner.expression, exp.Null) and not pandas:
        return {"type": "nullity", "column": _column(inner.this, schema, pandas), "is_null": not negated}
    if isinstance(inner, exp.In) and inner.expressions and not (pandas and negated):
        values = [_value(value) for value in inner.expressions]
        column = _column(inner.this, schema, pandas)
        return {"type": "comparison", "column": column, "operator": "NOT_IN" if negated else "IN", "parameter": values}
    if type(node) in _COMPARE:
        return _comparison(node, schema, pandas)
    raise NeedsGX(f"row_condition: {node.sql('spark')!r} is not a plain comparison")


def _comparison(node: exp.Expr, schema: pa.Schema, pandas: bool) -> dict[str, Any]:
    op, left, right = _COMPARE[type(node)], node.this, node.expression
    if isinstance(right, exp.Column):
        op, left, right = _MIRRORED.get(op, op), right, left
    column = _column(left, schema, pandas)
    if pandas and (op == "!=" or (op[0] == ">" and pa.types.is_floating(schema.field(column["name"]).type))):
        raise NeedsGX(f"row_condition: {node.sql('spark')!r} is another thing to pandas where values are missing")
    return {"type": "comparison", "column": column, "operator": op, "parameter": _value(right)}


def _column(node: exp.Expr, schema: pa.Schema, pandas: bool) -> dict[str, Any]:
    if not isinstance(node, exp.Column) or len(node.parts) != 1:
        raise NeedsGX(f"row_condition: {node.sql('spark')!r} is not a column")
    found = column_of(schema, node.name, case_insensitive=not pandas)
    if found is None:  # left to the engine: it may know names by rules of its own, and says what it doesn't know
        raise NeedsGX(f"row_condition: there is no column {node.name!r}, {nearest(node.name, schema.names)}")
    return {"name": found}


def _value(node: exp.Expr) -> Any:
    """A literal as a condition object holds it."""
    sign = 1
    if isinstance(node, exp.Neg):
        sign, node = -1, node.this
    if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.DATE and type(node) is exp.Cast:
        node = node.this
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if node.is_string:
            return text
        if _DIGITS.fullmatch(text):
            return sign * (float(text) if "." in text else int(text))
    raise NeedsGX(f"row_condition: {node.sql('spark')!r} is no plain value")
