"""A job whose tables are named by `{date}` has as many of them, and of what lies beside them, as there are dates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse.ledger import state_of
from lakehouse.plan import quarantine_of
from lakehouse.storage import Location, locate, siblings

if TYPE_CHECKING:
    from lakehouse.config import Job

Load = Callable[[str], "Job"]
"""Fills the job file in with a date."""
_ANY, _OTHER = "2000-01-01", "2000-01-02"


def with_states(load: Load) -> list[Job]:
    """The job, filled in once for each state folder that is there: once, unless these are named by the date."""
    return _filled_in(load, state_of)


def with_quarantines(load: Load) -> list[Job]:
    """The job, filled in once for each quarantine table that is there, as `with_states`."""
    aside = quarantine_of(load(_ANY))
    return _filled_in(load, lambda job: locate(quarantine_of(job).table)) if aside.type == "delta" else [load(_ANY)]


def with_tables(load: Load) -> list[Job]:
    """The job, filled in once for each scored table that is there, as `with_states`."""
    if load(_ANY).delta_sink is None:
        return [load(_ANY)]
    return _filled_in(load, lambda job: locate(job.delta_sink.table if job.delta_sink else ""))


def _filled_in(load: Load, place: Callable[[Job], Location]) -> list[Job]:
    anyhow = load(_ANY)
    here = place(anyhow)
    if here == place(load(_OTHER)):
        return [anyhow]
    return [load(day) for day in _days(here)] or [anyhow]


def _days(place: Location) -> list[str]:
    """The dates for which there is a folder, where it is the first in the path whose name has one; the newest first."""
    above, _, rest = place.uri.partition(_ANY)
    inside = rest.split("/", 1)
    below = f"/{inside[1]}" if len(inside) > 1 else ""
    named = replace(place, uri=place.uri.removesuffix(below), path=place.path.removesuffix(below))
    first, *others = [re.escape(part) for part in f"{above.rpartition('/')[2]}{_ANY}{inside[0]}".split(_ANY)]
    pattern = rf"{first}(\d{{4}}-\d\d-\d\d)" + r"\1".join(others)
    found = (re.fullmatch(pattern, folder) for folder in siblings(named))
    return sorted({match[1] for match in found if match}, reverse=True)
