"""Java's regular expressions, rewritten for RE2 (fast) and for Python's `re` so that they find the same.

Java: `.` stops at \\n, \\r, \\x85, \\u2028 and \\u2029, `$` matches before a last one of these, \\d \\s \\w and (?i)
know ASCII only. What has another meaning in Java than in Python's syntax is left to Spark.
"""

from __future__ import annotations

import importlib
import re
import warnings
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks.rules.refused import InvalidExpectation, NeedsGX

_sre: Any = importlib.import_module("re._parser")
_DIGIT, _SPACE, _WORD = ((48, 57),), ((9, 13), (32, 32)), ((48, 57), (65, 90), (95, 95), (97, 122))
_LINES = ((10, 10), (13, 13), (0x85, 0x85), (0x2028, 0x2029))
_CLASSES = {"DIGIT": _DIGIT, "SPACE": _SPACE, "WORD": _WORD}
_LAST = 0x10FFFF
_ENDS = "\r\x85\u2028\u2029"
_JAVA_END = rf"(?:(?=\r\n\Z)|(?<!\r)(?=\n\Z)|(?=[{_ENDS}]\Z)|\Z)"
_ESCAPES = set("dDsSwWbBAZtnrfaxu123456789")
_GROUPS = re.compile(r"\(\?(?:[:=!>]|<[=!]|<[A-Za-z][A-Za-z0-9]*>|[is]+[:)]|[is]*-[is]+:)")
_REPEAT = re.compile(r"\{\d+(,\d*)?\}")


@dataclass(frozen=True)
class Pattern:
    """A pattern in both dialects; `re2` is None where RE2 has no such thing, `ends` where it looks for the end."""

    source: str
    re2: str | None
    python: str
    ends: bool


def translate(source: str) -> Pattern:
    """Rewrite one of Java's patterns.

    Raises Wrong for what is no pattern, OnlyGX for what only Java reads as it does.
    """
    _scan(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = _sre.parse(re.sub(r"(?<!\\)\(\?<([A-Za-z])", r"(?P<\1", source))
    except FutureWarning as error:
        raise NeedsGX(f"the pattern {source!r}: {error}") from error
    except (re.error, OverflowError) as error:
        if re.match(r"look-behind|global flags|bad character range \\|.* \\", str(error)):
            raise NeedsGX(f"the pattern {source!r}: {error}") from error
        raise InvalidExpectation(f"{source!r} is no regular expression: {error}") from error
    writer = _Writer("py", tree.state.flags)
    python = writer.sequence(tree, True)
    try:
        re.compile(python)
        fast: str | None = _Writer("re2", tree.state.flags).sequence(tree, True)
        pc.match_substring_regex(pa.array([""]), fast)
    except re.error as error:
        raise NeedsGX(f"the pattern {source!r}: {error}") from error
    except (_NotRE2, pa.ArrowInvalid):
        fast = None
    return Pattern(source, fast, python, writer.ends)


def _scan(source: str) -> None:
    """Refuse what Python's parser reads in another way than Java, or not at all."""
    at, inside = 0, False
    while at < len(source):
        char, rest = source[at], source[at:]
        if char == "\\":
            following = source[at + 1 : at + 2]
            if following.isascii() and following.isalnum() and following not in _ESCAPES:
                raise NeedsGX(f"\\{following} in the pattern {source!r}")
            at += 1
        elif inside and (char == "[" or rest.startswith("&&")):
            raise NeedsGX(f"a class within a class in the pattern {source!r}")
        elif not inside and re.match(r"\[\^?\]", rest):
            raise NeedsGX(f"a class that begins with ] in the pattern {source!r}")
        elif not inside and rest.startswith("(?") and not _GROUPS.match(rest):
            raise NeedsGX(f"{rest[:4]!r} in the pattern {source!r}")
        elif not inside and char == "{" and not _REPEAT.match(rest):
            raise NeedsGX(f"{{ in the pattern {source!r}: Java wants \\{{")
        elif char in "[]":
            inside = char == "["
        at += 1


class _NotRE2(Exception):
    """RE2 has no such thing."""


class _Writer:
    """Writes the syntax tree of a pattern in one dialect; `flags` are those in force where it stands."""

    def __init__(self, dialect: str, flags: int) -> None:
        self.python = dialect == "py"
        self.flags = flags
        self.ends = False

    def sequence(self, nodes: Any, last: bool) -> str:
        """A run of nodes; `last`: nothing is matched after it."""
        items = list(nodes)
        return "".join(self._node(str(op), value, last and i == len(items) - 1) for i, (op, value) in enumerate(items))

    def _node(self, op: str, value: Any, last: bool) -> str:
        if op in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
            return self._set(op, value)
        if op == "AT":
            return self._at(str(value), last)
        if op == "BRANCH":
            return "(?:" + "|".join(self.sequence(branch, last) for branch in value[1]) + ")"
        if op == "SUBPATTERN":
            return self._group(value, last)
        if op in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            return self._repeat(op, value)
        return self._python_only(op, value)

    def _python_only(self, op: str, value: Any) -> str:
        if not self.python:
            raise _NotRE2
        if op in ("ASSERT", "ASSERT_NOT"):
            sign = "=" if op == "ASSERT" else "!"
            return f"(?{'<' if value[0] < 0 else ''}{sign}{self.sequence(value[1], False)})"
        if op == "ATOMIC_GROUP":
            return f"(?>{self.sequence(value, False)})"
        if op == "GROUPREF" and not self.flags & re.IGNORECASE and value < 10:
            return f"(?:\\{value})"
        if op == "FAILURE":
            return "(?!)"
        raise NeedsGX(f"{op.lower()} in a pattern")

    def _repeat(self, op: str, value: Any) -> str:
        least, most, inner = value
        many = "" if str(most) == "MAXREPEAT" else str(most)
        suffix = {"MAX_REPEAT": "", "MIN_REPEAT": "?", "POSSESSIVE_REPEAT": "+"}[op]
        if suffix == "+" and not self.python:
            raise _NotRE2
        return f"(?:{self.sequence(inner, False)}){{{least},{many}}}{suffix}"

    def _group(self, value: Any, last: bool) -> str:
        number, added, removed, inner = value
        before, self.flags = self.flags, (self.flags | added) & ~removed
        text = self.sequence(inner, last)
        self.flags = before
        return f"({text})" if number is not None else f"(?:{text})"

    def _at(self, where: str, last: bool) -> str:
        if where in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            return r"\A"
        if where in ("AT_END", "AT_END_STRING"):  # \Z is Java's $, not Python's
            self.ends = True
            if self.python:
                return _JAVA_END
            if last:
                return r"\n?\z"
        elif self.python:
            return {"AT_BOUNDARY": r"\b", "AT_NON_BOUNDARY": r"\B"}[where]
        raise _NotRE2

    def _set(self, op: str, value: Any) -> str:
        """One character out of a set, as a class of ranges."""
        if op == "ANY":
            return "(?s:.)" if self.flags & re.DOTALL else self._rewrite(_LINES, True)
        nodes = value if op == "IN" else [("LITERAL", value)]
        negated = op == "NOT_LITERAL"
        ranges: list[tuple[int, int]] = []
        for kind, item in nodes:
            match str(kind):
                case "NEGATE":
                    negated = True
                case "LITERAL":
                    ranges.append((item, item))
                case "RANGE":
                    ranges.append(item)
                case _:
                    ranges += self._category(str(item))
        if self.flags & re.IGNORECASE:
            ranges += [other for pair in tuple(ranges) for other in _other_case(*pair)]
        return self._rewrite(ranges, negated)

    @staticmethod
    def _category(name: str) -> list[tuple[int, int]]:
        ranges = _CLASSES[name.rpartition("_")[2]]
        if "NOT" not in name:
            return list(ranges)
        starts = [0, *(high + 1 for _, high in ranges)]
        return list(zip(starts, [*(low - 1 for low, _ in ranges), _LAST], strict=True))

    def _rewrite(self, ranges: Any, negated: bool) -> str:
        if not negated and len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
            return self._char(ranges[0][0])
        inner = "".join(
            self._char(low) if low == high else f"{self._char(low)}-{self._char(high)}" for low, high in ranges
        )
        return f"[{'^' if negated else ''}{inner}]"

    def _char(self, code: int) -> str:
        if code < 128 and chr(code).isalnum():
            return chr(code)
        return f"\\U{code:08x}" if self.python else f"\\x{{{code:x}}}"


def _other_case(low: int, high: int) -> list[tuple[int, int]]:
    """The ASCII letters of a range in the other case."""
    found = []
    for first, last, shift in ((65, 90, 32), (97, 122, -32)):
        start, end = max(low, first), min(high, last)
        if start <= end:
            found.append((start + shift, end + shift))
    return found


def like(source: str, escape: str = "\\") -> Pattern:
    """One of SQL's LIKE patterns, matched against the whole value as Spark does."""
    fast, slow, at = "", "", 0
    write = (_Writer("re2", 0)._char, _Writer("py", 0)._char)
    while at < len(source):
        char = source[at]
        if char == escape:
            at += 1
            if source[at : at + 1] not in ("%", "_", escape):
                raise InvalidExpectation(f"like pattern {source!r}: {escape!r} escapes only %, _ and itself")
            char, wild = source[at], None
        else:
            wild = {"%": "(?s:.*)", "_": "(?s:.)"}.get(char)
        fast += wild or write[0](ord(char))
        slow += wild or write[1](ord(char))
        at += 1
    return Pattern(source, rf"\A{fast}\z", rf"\A{slow}\Z", False)
