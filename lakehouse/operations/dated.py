"""A job whose tables are named by `{date}` has as many of them, and of what lies beside them, as there are dates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from lakehouse import sinks
from lakehouse.errors import ConfigError
from lakehouse.planning.naming import quarantine_of, state_of
from lakehouse.storage import Location, locate, siblings

if TYPE_CHECKING:
    from lakehouse.config import Job

Load = Callable[[str], "Job"]
"""Fills the job file in with a date."""
ANY, OTHER = "2000-01-01", "2000-01-02"
"""Two dates, to see what differs between any."""


def parse(text: str, option: str) -> date:
    """A date as an option names it. Raises ConfigError for what is none."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or str(found) != text:
        raise ConfigError(f"{option}: {text!r} is not a date: give YYYY-MM-DD")
    return found


def with_states(load: Load) -> list[Job]:
    """The job, filled in once for each state folder that is there: once, unless these are named by the date."""
    return _fill_in(load, state_of)


def with_quarantines(load: Load) -> list[Job]:
    """The job, filled in once for each quarantine table that is there, as `with_states`."""
    return _fill_in(load, _quarantine_dates)


def with_tables(load: Load) -> list[Job]:
    """The job, filled in once for each date of which a scored table, a quarantine table or a state folder is there."""
    return _fill_in(load, state_of, _scored_dates, _quarantine_dates)


def _fill_in(load: Load, *places: Callable[[Job], Location | None]) -> list[Job]:
    days: set[str] = set()
    for place in places:
        here = place(load(ANY))
        if here is not None and here != place(load(OTHER)):
            days.update(_days(here))
    return [load(day) for day in sorted(days, reverse=True)] or [load(ANY)]


def _scored_dates(job: Job) -> Location | None:
    return locate(job.delta_sink.table) if job.delta_sink else None


def _quarantine_dates(job: Job) -> Location | None:
    first = job.sinks[0]
    if sinks.of(first.type).folder(first) is None:
        return None  # nor are its tables named in full yet
    return sinks.of(first.type).folder(quarantine_of(job))


def _days(place: Location) -> list[str]:
    """The dates for which there is a folder, where it is the first in the path whose name has one."""
    above, _, rest = place.uri.partition(ANY)
    inside = rest.split("/", 1)
    below = f"/{inside[1]}" if len(inside) > 1 else ""
    named = replace(place, uri=place.uri.removesuffix(below), path=place.path.removesuffix(below))
    first, *others = [re.escape(part) for part in f"{above.rpartition('/')[2]}{ANY}{inside[0]}".split(ANY)]
    pattern = rf"{first}(\d{{4}}-\d\d-\d\d)" + r"\1".join(others)
    found = (re.fullmatch(pattern, folder) for folder in siblings(named))
    return [match[1] for match in found if match and _is_date(match[1])]


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:  # such as 2026-02-30
        return False
    return True
