"""Whether a statement of SQL only computes columns of the rows that it is given: what SQLTransformer may run unseen.

Spark's SQL can call any static method of Java (`reflect`, `java_method`), start programs (`TRANSFORM … USING`), read
files and write tables. So it is not looked for what does harm: only the words below pass.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\s+|(?P<name>[A-Za-z_]\w*)|(?P<number>\d+(?:\.\d*)?|\.\d+)|'[^'\\]*'|(?P<mark>[(),.+*/%<>=!-])")
_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        """
        abs acos and as asin atan atan2 between bround case cast cbrt ceil ceiling char char_length coalesce
        concat concat_ws cos cosh count_if date date_add date_diff date_format datediff day dayofmonth dayofweek
        dayofyear decimal degrees else exp expm1 floor from_unixtime greatest hour if ifnull in initcap instr is
        isnan isnotnull isnull least left length like ln locate log log10 log1p log2 lower lpad ltrim minute mod
        month months_between nanvl not nullif nvl nvl2 or pmod pow power quarter radians regexp_extract
        regexp_replace replace reverse right rint rlike round rpad rtrim second sign signum sin sinh split sqrt
        substr substring tan tanh then to_date to_timestamp translate trim trunc try_add try_cast try_divide
        try_multiply try_subtract unix_timestamp upper varchar weekday weekofyear when year
        """,
    )
)
"""What may stand before a parenthesis."""
_REFUSED = frozenset(
    re.findall(
        r"\w+",
        """
        anti cluster cross cube delete describe distribute except explain from group grouping having insert
        intersect into join lateral limit map merge minus offset order over pivot qualify reduce rollup select
        set sort table tablesample transform union unpivot update using values window with
        """,
    )
)
"""Words that make more of a statement than `SELECT … FROM __THIS__ WHERE …`."""


def doubt(statement: str) -> str:
    """Why a statement may do more than compute, in words; empty where it does not."""
    tokens = _tokens(statement)
    if tokens is None:
        return f"{statement!r} has something else in it than names, numbers, texts and operators"
    words = [token.lower() for token in tokens]
    if "--" in "".join(words) or "/*" in "".join(words):
        return f"{statement!r} has a comment in it"
    if words[:1] != ["select"] or "from" not in words:
        return f"{statement!r} is no SELECT … FROM __THIS__"
    at = words.index("from")
    before, after = words[1:at], words[at + 1 :]
    if tokens[at + 1 : at + 2] != ["__THIS__"] or after[1:2] not in ([], ["where"]):
        return f"{statement!r} reads something else than the rows of __THIS__"
    rest = [*before, ",", *after[2:]]
    if found := next((word for word in rest if word in _REFUSED), None):
        return f"{statement!r} has {found.upper()} in it"
    for first, name, then in zip(["", *rest], rest, [*rest[1:], ""], strict=False):
        if then == "(" and re.fullmatch(r"[a-z_]\w*", name) and (name not in _FUNCTIONS or first == "."):
            return f"{statement!r} calls {name}"
    return ""


def _tokens(statement: str) -> list[str] | None:
    """The statement's words, marks and texts; None where there is something else in it."""
    found, at = list[str](), 0
    while at < len(statement):
        token = _TOKEN.match(statement, at)
        if token is None or not statement.isascii():
            return None
        if token[0].strip():
            found.append(token[0] if token["name"] or token["number"] or token["mark"] else "'text'")
        at = token.end()
    return found
