"""A job with a model a value of a column: the environments of its models, and values of the input that have none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import models
from lakehouse.errors import ModelRefused
from lakehouse.planning import carriers, environment
from lakehouse.planning.carriers import Executors
from lakehouse.planning.environment import Environment
from lakehouse.planning.plan import Say
from lakehouse.scoring import looking
from lakehouse.scoring.routing import missing_refusal, named_values
from lakehouse.sources import FILES

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.planning.plan import Plan, Request

_SHOWN = 5
_LOOK_ROWS = 1 << 20
_LOOK_BYTES = 1 << 30
"""The driver reads one column of an input of so many bytes; of a larger one executors do, so many tasks a core."""
_TURNS = 3


def compare_environments(job: Job, fetched: models.FetchedModel, say: Say = lambda event, values: None) -> Environment:
    """`environment.compare` for a job's model or for all of its models. Raises ModelRefused, with the models' names."""
    if not fetched.members:
        return environment.compare(job, fetched, say)
    found, wrong = dict[str, Environment](), dict[str, str]()
    refused: dict[str, list[models.FetchedModel]] = {}
    for member in fetched.members.values():
        key = models.environment_key(Path(member.path))
        if key in wrong:
            refused[wrong[key]].append(member)
        elif key not in found:
            try:
                found[key] = environment.compare(job, member)
            except ModelRefused as error:
                wrong[key] = str(error)
                refused.setdefault(str(error), []).append(member)
    if refused:
        said, several = next(iter(refused.items()))
        count = sum(map(len, refused.values()))
        named = ", ".join(f"{one.name} v{one.version}" for one in several[:_SHOWN])
        raise ModelRefused(f"{count} of {len(fetched.members)} models, such as {named}: {said}")
    return _together(list(found.values()))


def _together(found: Sequence[Environment]) -> Environment:
    """What all models say of their environments, as one: each package's version as one of them says it."""
    first, *others = found
    versions, parts, protocol, here = first.recorded.versions, first.recorded.parts, first.recorded.protocol, first.here
    for other in others:
        versions, parts = {**other.recorded.versions, **versions}, {**other.recorded.parts, **parts}
        protocol, here = max(protocol, other.recorded.protocol), {**other.here, **here}
    doubts = list(dict.fromkeys(one.doubt for one in found if one.doubt))
    notes = tuple(dict.fromkeys(note for one in found for note in one.notes))
    return replace(
        first,
        recorded=models.Recorded(versions, parts, protocol),
        here=here,
        doubt="; ".join(doubts),
        notes=notes,
    )


def find_missing(plan: Plan, request: Request, executors: Callable[[], Executors] | None = None) -> str:
    """How many values in the input have no model, and some of them, in words; a dry run warns of them.

    They are looked for before the pass on a dry run, and where the job refuses them, if the one column can be read by
    itself: by `executors` where there are any and the input is large. Raises ModelRefused where no value has a model,
    and where the job refuses what is found.
    """
    job = plan.job
    refuses = job.model.missing == "refuse"
    if not plan.model.members or job.model.by is None or not (request.dry_run or refuses):
        return ""
    by = job.model.by
    if plan.carrier != FILES:
        said = f"the values of {by} were not looked at ({plan.reason})"
        if request.dry_run:
            request.warn(f"model.by: {said}: rows without a model are found in the run")
        return said
    found = _values(plan, by, executors)
    without = sorted(found.others, key=lambda value: (value is None, value or ""))
    many, least = len(found.known) + len(without), "at least " if found.more else ""
    if without and len(without) == many and not found.more:
        raise ModelRefused(_none_refusal(without, plan))
    if without and refuses:
        raise ModelRefused(missing_refusal(without, by, job.model.uri, found.more))
    named = named_values(without, found.more)
    if without and request.dry_run:
        request.warn(f"model.by: a run sets rows aside (no_model): there is no model for {by} {named}")
    return f"{least}{len(without):,} of {least}{many:,} values of {by} have no model" + (f": {named}" if named else "")


def _values(plan: Plan, by: str, executors: Callable[[], Executors] | None) -> looking.Values:
    """The values of the column, those that have a model apart from the others."""
    columns = tuple(dict.fromkeys([by, *plan.pinned.where_columns]))
    members = frozenset(plan.model.members)
    size = plan.pinned.size
    if executors is None or (size is not None and size <= _LOOK_BYTES):
        return looking.find_values(carriers.units_of(plan, 1, columns, _LOOK_ROWS), by, members)
    there = executors()
    shares = carriers.balance(carriers.units_of(plan, _TURNS * there.cores, columns, _LOOK_ROWS), _TURNS * there.cores)
    return looking.values_of(there.ask(looking.values_in, [(share, by, members) for share in shares]))


def _none_refusal(values: Sequence[str | None], plan: Plan) -> str:
    """Why a run is refused that would set all rows aside: the values, and whom there are models for."""
    members = plan.model.members
    found = ", ".join(f"{value!r} ({one.name} v{one.version})" for value, one in list(members.items())[:_SHOWN])
    more = f" and {len(members) - _SHOWN:,} more" if len(members) > _SHOWN else ""
    return (
        f"model.by: none of the {len(values):,} values of {plan.job.model.by} has a model: {named_values(values)}; "
        f"{plan.job.model.uri} has some for {found}{more}: name the column that has these values, or register models"
    )
