"""Why a message can't be read: the field, what it should be and what is there, in the same words each time.

What libraries say of it names no field, or has an address in memory. So the field is sought by reading parts of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

_WORDS = {"number": "a number", "string": "text", "object": "an object", "array": "a list", "boolean": "true or false"}
"""What Arrow calls values of JSON, in ours."""
_CHANGED = re.compile(r"JSON parse error: Column\(/(?P<path>.*)\) changed from \w+ to (?P<found>\w+) in row 0")
_UNFIT = re.compile(r"Failed to convert JSON to .*, couldn't parse:\s*(?P<found>.*)")
Part = TypeVar("Part")


def in_json(error: str, fields: Sequence[Part], read: Callable[[Sequence[Part]], None]) -> tuple[Part | None, str]:
    """The field that Arrow refuses in one message and what it has there, or None and what is wrong with it as a whole.

    `read`: reads these fields alone of the message, and raises ValueError where it can't.
    """
    if changed := _CHANGED.fullmatch(error):
        inside = "a list with " if changed["path"].endswith("/[]") else ""
        found = inside + _WORDS.get(changed["found"], changed["found"])
    elif unfit := _UNFIT.fullmatch(error):
        found = unfit["found"]
    else:
        return None, error.removesuffix(" in row 0")
    return fields[first_refused(len(fields), lambda count: _refuses(read, fields[:count])) - 1], found


def in_avro(error: Exception) -> str:
    """What fastavro has met, without what differs from one run to the next."""
    text = str(error)
    if isinstance(error, EOFError):
        length = re.match(r"Expected (-\d+) bytes", text)
        return f"it has a length of {length[1]} bytes" if length else "the message ends before it does"
    if isinstance(error, UnicodeDecodeError):
        return "it has text that is no UTF-8"
    if isinstance(error, IndexError):
        return "it names a branch or symbol that the schema doesn't have"
    return f"{type(error).__name__}: {re.sub(r' at 0x[0-9a-fA-F]+', '', text)}"


def first_refused(count: int, refuses: Callable[[int], bool]) -> int:
    """How many of `count` parts, from the first on, are refused together while one less isn't; all of them are."""
    fine, refused = 0, count
    while refused - fine > 1:
        middle = (fine + refused) // 2
        fine, refused = (fine, middle) if refuses(middle) else (middle, refused)
    return refused


def _refuses(read: Callable[[Sequence[Part]], None], fields: Sequence[Part]) -> bool:
    try:
        read(fields)
    except ValueError:
        return True
    return False
