"""Look for patterns in columns of text: with RE2 where it finds the same as Java, else value by value."""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks.rules.patterns import Pattern


def matches(pattern: Pattern, array: pa.Array) -> pa.Array:
    """Which texts the pattern finds; null for null."""
    if pattern.re2 is None:
        return _ask_once_a_value(pattern, array)
    result = pc.match_substring_regex(array, pattern.re2)
    if not pattern.ends or not _has_ends(array):
        return result
    odd = pc.fill_null(pc.match_substring_regex(array, r"[\r\x{85}\x{2028}\x{2029}]"), False)
    return pc.replace_with_mask(result, odd, _ask_once_a_value(pattern, array.filter(odd)))


def _has_ends(array: pa.Array) -> bool:
    """Whether a line may end in anything but \\n: a look at the bytes, which are cheaper than the texts."""
    data = array.buffers()[2]
    if data is None:
        return False
    text = memoryview(data).tobytes()
    return b"\r" in text or b"\xc2\x85" in text or b"\xe2\x80\xa8" in text or b"\xe2\x80\xa9" in text


def _ask_once_a_value(pattern: Pattern, array: pa.Array) -> pa.Array:
    search = re.compile(pattern.python).search
    return ask_once_a_value(array, lambda text: search(text) is not None)


def ask_once_a_value(array: pa.Array, holds: Callable[[str], bool]) -> pa.Array:
    """The answer for each text, asked once for each distinct one; null for null."""
    coded = array.dictionary_encode()
    verdicts = pa.array([holds(text) for text in coded.dictionary.to_pylist()], pa.bool_())
    return verdicts.take(coded.indices)
