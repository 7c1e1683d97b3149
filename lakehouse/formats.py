"""The format of each thing that runs store, so that programs of other versions know what they read.

Every stored thing names its format by a number; what was written before formats had numbers has none, which is 0. A
format's number goes up when a program that doesn't know what is new would read the thing wrongly. A key that such a
program may as well ignore is added without that, and so is a column of a table.

A reader ignores keys that it doesn't know, reads every older format, and refuses a newer one by name (`require`), as
what is no such thing at all (`parse`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from lakehouse.errors import ConfigError

KEY = "format"
"""The key, or the column, that holds the number."""


@dataclass(frozen=True)
class Format:
    """One kind of stored thing: what people call it, and the number of the format that this program writes.

    `remedy`: what to do where a file of it is broken.
    """

    name: str
    version: int
    remedy: str = "restore it"


_SCORE = "score its date again, after `lakehouse reconcile` where the run may have published"
INTENT = Format("an intent", 2, f"restore it, or move it away and {_SCORE}")
"""2 may name a range, whose end the commit keeps, and streams that get events: who ignored these would lose them."""
HELD = Format("a held run", 1, "restore it, or move it away, which gives up what was held, and score its date again")
RECORD = Format(
    "a record",
    1,
    "restore it, or move the table away; then `lakehouse reconcile` makes records of what the tables remember",
)
FACTS = Format("facts", 1, "restore it, or move it away: less is known of the run then")
METRICS = Format("metrics", 1)
PROFILES = Format("profiles", 1)
BASELINE = Format("a baseline", 1, "restore it, or move it away: a later run makes it anew")
GOLDEN = Format("golden rows", 1, "restore it, or move it away: the next run keeps its answers anew")
LEASE = Format("a lease", 1, "move it away, if the run that its folder names is not under way")
PROMOTION = Format("a promotion", 1)
MODEL = Format("a kept model", 1)
KNOWN = Format("what is known of a model", 1)
LOG = Format("commits of a log", 1)
ENVIRONMENT = Format("an environment", 1)
RECEIPT = Format("a receipt", 1)
REGISTRATION = Format("a registration", 1)
PACKAGE = Format("a package", 1)
MESSAGES = Format("messages", 1, "restore it, or move it away: messages that come again may be scored twice then")
ENDS = Format(
    "a note of when the end of the messages was seen",
    1,
    "restore it, or move it away: what retention has deleted unseen before the next run is not told then",
)
SEEN = Format("what was seen of shards", 1, "it is made anew; until then more may be told as lost than is")
USES = Format(
    "a note of who takes messages",
    1,
    "it is taken away; if it is a run's, that is taken to hold messages for some minutes yet",
)
"""These two are hints (`parse_hint`): what is said here happens by itself."""
FINGERPRINT = Format("a fingerprint", 1)
"""Of a digest only the number is stored: `<number>:<digest>`, the plain digest for 1."""


def with_version(kind: Format, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a stored thing with the number of its format."""
    return {KEY: kind.version, **content}


class Broken(ConfigError):
    """A stored thing can't be read."""


_T = TypeVar("_T")


def parse(kind: Format, text: bytes | str, place: str, make: Callable[[dict[str, Any]], _T]) -> _T:
    """What `make` makes of a stored thing, which is JSON; it is given the content without the format's number.

    Raises ConfigError for a newer format, and Broken where the text is broken or lacks what such a thing has.
    """
    try:
        said = json.loads(text)
        if not isinstance(said, dict):
            raise TypeError("it is no JSON object")
        return make(without_version(kind, said, place))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise Broken(f"{place}, {kind.name}, can't be read ({why}): {kind.remedy}") from error


def parse_hint(
    kind: Format, text: bytes | str, place: str, make: Callable[[dict[str, Any]], _T], doubts: list[str]
) -> _T | None:
    """As `parse`, of what a run can do without: None where it is broken, which is added to what people are told."""
    try:
        return parse(kind, text, place, make)
    except Broken as error:
        doubts.append(str(error))
        return None


def without_version(kind: Format, content: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The content of a stored thing without the number, which `require` has been asked about."""
    require(kind, content, place)
    return {name: value for name, value in content.items() if name != KEY}


def require(kind: Format, content: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError where the format is newer than what this program knows; `place`: where the thing lies."""
    if is_newer(kind, content):
        raise ConfigError(
            f"{place} holds {kind.name} of format {content[KEY]}, written by a newer lakehouse; this one reads "
            f"formats up to {kind.version}: upgrade lakehouse"
        )


def is_newer(kind: Format, content: Mapping[str, Any]) -> bool:
    """Whether the format is one that this program doesn't know."""
    return (content.get(KEY) or 0) > kind.version


def known_fields(kind: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that are fields of the dataclass; others are a newer program's, and optional."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in content.items() if name in names}
