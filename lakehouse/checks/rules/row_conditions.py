"""`row_condition`: comparisons joined by AND or OR, which Arrow answers exactly as Spark does.

Great Expectations writes a condition as Spark SQL; where the meaning of that text isn't plain, it stays with GX.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks.rules.bounds import Span, family, inside, members, parse_moment, span
from lakehouse.checks.rules.refused import InvalidExpectation, NeedsGX
from lakehouse.errors import nearest

PANDAS = "pandas"
_PARSERS = ("great_expectations", "great_expectations__experimental__", PANDAS, "spark")
_KEYS = {
    "comparison": {"type", "column", "operator", "parameter"},
    "nullity": {"type", "column", "is_null"},
    "and": {"type", "conditions"},
    "or": {"type", "conditions"},
    "pass_through": {"type", "pass_through_filter"},
}
_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "IN", "NOT_IN")
_TEXT = re.compile(
    r"""col\("(?P<column>[^"]+)"\)\s*(?:(?P<notnull>\.notnull\(\))|(?P<op>==|!=|<=|>=|<|>)\s*
        (?:(?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)|"(?P<double>[^"']*)"|'(?P<single>[^"']*)'))\s*""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Leaf:
    """One comparison: in a span or a set of values (or not), or null or not."""

    column: str
    span: Span | None = None
    values: pa.Array | None = None
    negated: bool = False


@dataclass(frozen=True)
class Condition:
    """Leaves joined by AND (`every`) or OR, nested; `text` identifies it."""

    text: str
    every: bool
    terms: tuple[Condition | Leaf, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        found = [t.columns if isinstance(t, Condition) else (t.column,) for t in self.terms]
        return tuple(dict.fromkeys(name for names in found for name in names))


def parse_condition(given: Any, parser: Any, schema: pa.Schema) -> Condition | None:
    """The condition of `row_condition` and `condition_parser`; None where there is none.

    Raises Wrong for what GX refuses too or what names no column, OnlyGX where only its engine can tell.
    """
    if parser is not None and parser not in _PARSERS:
        raise InvalidExpectation(f"condition_parser {parser!r}, {nearest(str(parser), _PARSERS)}")
    if given is None or given == "":
        return None
    text = engine_text(given, parser)
    if text is not None:
        from lakehouse.checks.rules.texts import as_object  # with its parser of SQL, only where there is a text

        try:
            term = _term(as_object(text, schema, parser == PANDAS), schema)
        except InvalidExpectation as wrong:  # an engine converts what it compares
            raise NeedsGX(str(wrong)) from wrong
    elif isinstance(given, str):
        term = _term(_literal(given), schema)
    elif not isinstance(given, Mapping):
        raise InvalidExpectation(f"row_condition is a text or a mapping, not {given!r}")
    else:
        _require_flat(given)
        term = _term(given, schema)
    return term if isinstance(term, Condition) else Condition(str(given), True, (term,))


def engine_text(given: Any, parser: Any) -> str | None:
    """The text that GX hands to its engine as it is, None where the condition is none."""
    if isinstance(given, Mapping) and given.get("type") == "pass_through":
        return str(given.get("pass_through_filter"))
    return given if isinstance(given, str) and given and parser not in _PARSERS[:2] else None


def columns_named(given: Any, parser: Any) -> list[str] | None:
    """The columns that a condition names, as it spells them; None where that can't be told."""
    text = engine_text(given, parser)
    if text is not None:
        from lakehouse.checks.rules.texts import columns_of

        return columns_of(text)
    if isinstance(given, str) and given:
        found = _TEXT.fullmatch(given.strip())
        return [found["column"]] if found else None
    if not isinstance(given, Mapping):
        return []
    inner = [columns_named(one, parser) for one in given.get("conditions") or ()]
    if None in inner:
        return None
    column = given.get("column")
    own = [column["name"]] if isinstance(column, Mapping) and isinstance(column.get("name"), str) else []
    return [*own, *(name for names in inner for name in names or ())]


def to_gx_condition(given: Any, parser: Any, names: Mapping[str, str]) -> Any:
    """A condition as the object that today's GX wants, with other names for some columns; a text of GX' own dialect
    that can't be read stays one.
    """
    text = engine_text(given, parser)
    if text is not None:
        return {"type": "pass_through", "pass_through_filter": text}
    if isinstance(given, str):
        try:
            given = _literal(given)
        except NeedsGX:
            return given
    made = dict(given)
    if isinstance(given.get("column"), Mapping):
        name = given["column"].get("name")
        made["column"] = {**given["column"], "name": names.get(name, name)}
    if "conditions" in given:
        made["conditions"] = [to_gx_condition(one, parser, names) for one in given["conditions"]]
    return made


def _literal(text: str) -> dict[str, Any]:
    """GX's own dialect as an object: col("a") > 5, col("a") == "x", col("a").notnull()."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise NeedsGX(f'row_condition {text!r} is more than col("name") compared with one value')
    column = {"name": found["column"]}
    if found["notnull"]:
        return {"type": "nullity", "column": column, "is_null": False}
    number = found["number"]
    if number is None:
        value: Any = found["double"] or found["single"] or ""
    else:
        value = int(number) if re.fullmatch(r"[+-]?\d+", number) else float(number)
    return {"type": "comparison", "column": column, "operator": found["op"], "parameter": value}


def _require_flat(given: Any) -> None:
    """Refuse what GX refuses of its own objects."""
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind not in ("and", "or"):
        return
    inner = given.get("conditions")
    if not inner or any(isinstance(one, Mapping) and one.get("type") == "or" for one in inner):
        raise InvalidExpectation("row_condition: GX allows AND within OR, not OR within AND or OR, nor an empty list")
    for one in inner:
        _require_flat(one)


def _term(given: Any, schema: pa.Schema) -> Condition | Leaf:
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind not in _KEYS:
        raise InvalidExpectation(f"row_condition {given!r}: its `type` is one of {', '.join(_KEYS)}")
    unknown = set(given) - _KEYS[kind]
    if unknown or set(_KEYS[kind]) - set(given):
        raise InvalidExpectation(
            f"row_condition {given!r}: a condition of type {kind!r} has {', '.join(sorted(_KEYS[kind]))}"
        )
    if kind == "pass_through":
        raise NeedsGX("row_condition has a text of SQL within")
    if kind in ("and", "or"):
        return Condition(repr(given), kind == "and", tuple(_term(one, schema) for one in given["conditions"]))
    named = given["column"]
    if not isinstance(named, Mapping) or set(named) != {"name"}:
        raise InvalidExpectation(f"row_condition: column {named!r} is written as {{name: …}}")
    column = _column(named["name"], schema)
    if kind == "nullity":
        return Leaf(column, negated=not given["is_null"])
    return _compare(column, given["operator"], given["parameter"], schema)


def _column(name: Any, schema: pa.Schema) -> str:
    if name not in schema.names:
        raise InvalidExpectation(f"row_condition: no column {name!r}, {nearest(str(name), schema.names)}")
    return str(name)


def _compare(column: str, op: str, value: Any, schema: pa.Schema) -> Leaf:
    kind = schema.field(column).type
    if op in ("IN", "NOT_IN"):
        if not isinstance(value, list):
            raise InvalidExpectation(f"row_condition: {op} takes a list, not {value!r}")
        if not value:
            raise NeedsGX("row_condition compares with an empty list")
        if len({isinstance(v, str) for v in value}) > 1 or not all(type(v) in (int, float, str) for v in value):
            raise InvalidExpectation(f"row_condition: {op} takes a list of numbers or a list of texts")
        if family(kind) not in ("integer", "text", "date") or any(isinstance(v, float) for v in value):
            raise NeedsGX(f"row_condition compares {column!r} ({kind}) with a list")
        return Leaf(column, None, members(column, kind, [_sql(v, kind) for v in value]), op == "NOT_IN")
    if op not in _OPERATORS:
        raise InvalidExpectation(f"row_condition: operator {op!r}, {nearest(str(op), _OPERATORS)}")
    literal = _sql(value, kind)
    if op in ("==", "!="):
        return Leaf(column, span(column, kind, literal, literal), None, op == "!=")
    strict = "=" not in op
    if family(kind) == "text":
        raise NeedsGX(f"row_condition orders the texts of {column!r}")
    if op.startswith(">"):
        return Leaf(column, span(column, kind, literal, None, (strict, False)))
    return Leaf(column, span(column, kind, None, literal, (False, strict)))


def _sql(value: Any, kind: pa.DataType) -> Any:
    """The parameter as the literal that GX writes into SQL: a number with a point is a decimal there."""
    if isinstance(value, str):
        if not value.isprintable() or "\\" in value or "'" in value:
            raise NeedsGX(f"row_condition: {value!r} needs escapes in SQL")
        return parse_moment(value) if family(kind) in ("date", "time") else value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidExpectation(f"row_condition: {value!r} is no literal of SQL")
        exact = "e" not in repr(value) and family(kind) in ("integer", "decimal")
        return Decimal(repr(value)) if exact else value
    if isinstance(value, (bool, int)):
        return value
    raise InvalidExpectation(f"row_condition: {value!r} is no number or text (write dates as texts, '2024-01-31')")


def mask(condition: Condition, batch: pa.RecordBatch) -> pa.Array:
    """Which rows meet the condition: a boolean array without nulls, as a comparison with null isn't met."""
    result: pa.Array | None = None
    for term in condition.terms:
        one = mask(term, batch) if isinstance(term, Condition) else _leaf(term, batch.column(term.column))
        join = pc.and_ if condition.every else pc.or_
        result = one if result is None else join(result, one)
    return result


def _leaf(leaf: Leaf, array: pa.Array) -> pa.Array:
    if leaf.span is None and leaf.values is None:
        return array.is_valid() if leaf.negated else array.is_null()
    met = inside(leaf.span, array) if leaf.span is not None else pc.is_in(array, leaf.values)
    if leaf.negated:
        met = pc.and_(pc.invert(met), array.is_valid())
    return pc.fill_null(met, False)
