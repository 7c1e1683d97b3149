"""When runs last came to the end of a subscription's messages: those that came before are dealt with.

What Pub/Sub still has when its retention passes, it deletes unseen. A run has come to the end where it was handed out
nothing for a while, and no other run that is known of (`uses`) held messages meanwhile. Of a subscription that keeps
the order of a key's messages that is not enough: while some of a key are held, others of it may wait, which came later.
So all is dealt with that came before the newest message of each key that was handed out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from lakehouse import formats
from lakehouse.connectors.messages import lose
from lakehouse.storage import Location, content, display_name, write_durably

_FILE = "emptied.json"
_OFTEN_NS = 600_000_000_000
"""What that file says is renewed so often at most."""


def last(home: Location) -> int:
    """When a run last found no more messages, or else the first one began, in ns since 1970; 0 before that one."""
    place = home.join(_FILE)
    text = content(place, no_folder=True)
    if text is None:
        return 0
    return formats.parse(formats.ENDS, text, display_name(place), lambda said: int(said["at"]))


def remember(home: Location, ended_ns: int, began_ns: int) -> None:
    """Keep that a run which began then found no more messages at `ended_ns`, 0 where there may have been more."""
    known = last(home)
    at_ns = ended_ns or (0 if known else began_ns)
    if at_ns > known + _OFTEN_NS:
        said = formats.with_version(formats.ENDS, {"at": at_ns})
        write_durably(home.join(_FILE), json.dumps(said).encode())


def note_newest(newest_ns: dict[str, int], got: Iterable[Any]) -> None:
    """Note by ordering key when the newest message was published that was handed out, in ns since 1970."""
    for one in got:
        key, at = one.message.ordering_key, one.message.publish_time
        if key:
            newest_ns[key] = max(newest_ns.get(key, 0), at.seconds * 1_000_000_000 + at.nanos)


def require_recent(home: Location, name: str, kept_s: int, notes: list[str], accepted: bool) -> None:
    """Note what may have been deleted unseen of a subscription that keeps messages for so long, as `messages.lose`."""
    at_ns = last(home)
    if not at_ns or time.time_ns() - at_ns <= kept_s * 1_000_000_000:
        return
    at = datetime.fromtimestamp(at_ns / 1e9, UTC)
    lose(
        f"{name}: no run has come to the end of the messages since {at:%Y-%m-%d %H:%M} (UTC), and the "
        f"subscription keeps them for {kept_s / 86_400:.3g} days: some may have been deleted before they were "
        "scored",
        notes, accepted,
    )  # fmt: skip
