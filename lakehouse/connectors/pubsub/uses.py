"""Who takes messages of a subscription, as far as runs that share a state folder say so.

A run has a note while it holds messages, renewed as often as its hold on them, and a job one of when it last was done
with some. Other consumers, and jobs with another state folder, are not seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse import formats
from lakehouse.connectors.pubsub.leases import DEADLINE_S
from lakehouse.storage import Location, display_name, read_all, remove, remove_empty, write_durably

_GONE_NS = 2 * DEADLINE_S * 1_000_000_000
"""After so long without a word the messages of a run have come to others."""
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True)
class Use:
    """A run that holds messages, by the number of its batch, or a job that was done with some (0); and when.

    `job` is empty where nobody knows whose run it is.
    """

    job: str
    number: int
    at_ns: int

    @property
    def file(self) -> str:
        """The note's name."""
        return f"{hashlib.sha256(self.job.encode()).hexdigest()[:16]}-{self.number}.json"

    def holds(self, now_ns: int) -> bool:
        """Whether it may hold messages now."""
        return self.number > 0 and now_ns - self.at_ns < _GONE_NS


def folder_of(state: Location, stream: str) -> Location:
    """Where the notes are."""
    return state.join("messages", "uses", hashlib.sha256(stream.encode()).hexdigest()[:24])


def note(folder: Location, use: Use) -> None:
    """Say that it is so."""
    said = formats.with_version(formats.USES, {"job": use.job, "number": use.number, "at": use.at_ns})
    write_durably(folder.join(use.file), json.dumps(said).encode())


def forget(folder: Location, use: Use) -> None:
    """Take its note away, if there is one."""
    remove(folder.join(use.file))
    remove_empty(folder)


def of(folder: Location, now_ns: int, keep_ns: int, doubts: list[str]) -> list[Use]:
    """All that are said. What is older than it is kept, or of runs that have died, is taken away.

    So is a note that is broken, which is added to what people are told. A run's is made anew, without its job: it may
    hold messages.
    """
    found = list[Use]()
    for name, text in read_all(folder, ".json").items():
        place = display_name(folder.join(name))
        use = formats.parse_hint(formats.USES, text, place, _parsed, doubts)
        if use is None:
            use = Use("", _number(name), now_ns)
            if use.number:
                note(folder, use)
                found.append(use)
            remove(folder.join(name))
        elif now_ns - use.at_ns > (_DAY_NS if use.number else keep_ns):
            forget(folder, use)
        else:
            found.append(use)
    return found


def _parsed(said: Mapping[str, Any]) -> Use:
    return Use(str(said["job"]), int(said["number"]), int(said["at"]))


def _number(file: str) -> int:
    """The number of a run's batch, of a note's name."""
    number = file.removesuffix(".json").rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
