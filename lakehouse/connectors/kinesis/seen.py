"""What runs have seen of a stream's shards, kept in the state folder, so that what can't be lost is not told as lost.

Only a commit moves positions, and a run without messages makes none. So it notes up to when a shard had nothing after
its position, or that it has ended there. That is true of the stream whoever noted it. Without notes, or where they are
older than the stream keeps records, what may be lost is told as if there were none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lakehouse import formats
from lakehouse.connectors.messages import home_of
from lakehouse.storage import Location, content, display_name, write_durably

_FILE = "seen.json"
_OFTEN_MS = 600_000
"""Notes of which only the time has changed are renewed so often at most."""
_CLOCKS_MS = 600_000
"""So much may the clocks differ of machines that runs are made on."""


@dataclass(frozen=True)
class Seen:
    """Up to `at_ms` (ms since 1970) a shard had no record from `position` on; `ended`: nor can any come.

    `kept_ms`: how long the stream kept records then.
    """

    position: int
    at_ms: int
    kept_ms: int
    ended: bool = False

    def rules_out_loss(self, position: int | None, at_ms: int, kept_ms: int) -> bool:
        """Whether all that came to the shard after this position is still kept now, where it has records."""
        if position != self.position:
            return False
        return self.ended or 0 <= at_ms - self.at_ms < min(kept_ms, self.kept_ms) - _CLOCKS_MS


@dataclass
class Notes:
    """The notes of a job's runs, read and written for a stream, which has an id. `new`: what this run has seen.

    `doubts`: that what was noted can't be read, for people.
    """

    job: str
    state: Location
    stream: str = ""
    old: Mapping[str, Seen] | None = None
    new: Mapping[str, Seen] | None = None
    doubts: list[str] = field(default_factory=list)

    @property
    def _place(self) -> Location:
        return home_of(self.state, self.job, self.stream).join(_FILE)

    def of(self, stream: str) -> Mapping[str, Seen]:
        """What earlier runs have noted, by shard."""
        self.stream, self.doubts = stream, []
        text = content(self._place, no_folder=True)
        place = display_name(self._place)
        old = None if text is None else formats.parse_hint(formats.SEEN, text, place, _parsed, self.doubts)
        self.old = old or {}
        return self.old

    def write(self) -> None:
        """Keep what this run has seen."""
        if self.old is None or self.new is None or not (self.doubts or _is_news(self.old, self.new)):
            return
        said = {shard: {**asdict(seen), "position": str(seen.position)} for shard, seen in sorted(self.new.items())}
        write_durably(self._place, json.dumps(formats.with_version(formats.SEEN, {"shards": said})).encode())


def _parsed(said: Mapping[str, Any]) -> dict[str, Seen]:
    return {
        shard: Seen(int(of["position"]), int(of["at_ms"]), int(of["kept_ms"]), bool(of["ended"]))
        for shard, of in said["shards"].items()
    }


def _is_news(old: Mapping[str, Seen], new: Mapping[str, Seen]) -> bool:
    """Whether new notes say more than that what is known was still so a moment later."""
    if old.keys() != new.keys():
        return True
    return any(
        (one.position, one.ended) != (old[shard].position, old[shard].ended)
        or (not one.ended and one.at_ms - old[shard].at_ms > _OFTEN_MS)
        for shard, one in new.items()
    )
