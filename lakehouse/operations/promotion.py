"""Promote a challenger: the alias of a job's model moves to it, if the last comparison passes the job's rules.

MLflow moves an alias whatever it names by then. Of several `promote` at once, of jobs with one state folder, only one
moves it: each enters what it is about to do into the state folder's table `promotions` first, under a number that can
be taken once. Whoever else moves an alias is noticed by a look right before and right after.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import formats, models
from lakehouse.errors import Blocked, ConfigError, Unavailable
from lakehouse.planning import catalog, naming
from lakehouse.runs import evidence, ledger, tables
from lakehouse.schemas import TIMESTAMP
from lakehouse.scoring.comparison import MOST_SEGMENTS, OTHERS

if TYPE_CHECKING:
    from lakehouse.config import Job, Promotion
    from lakehouse.storage import Location

PROMOTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("number", pa.int64()),
        ("model_name", pa.string()),
        ("alias", pa.string()),
        ("before", pa.string()),
        ("version", pa.string()),
        ("run_id", pa.string()),
        ("begun_at", TIMESTAMP),
    ]
)
_AT_WORK = timedelta(minutes=1)
"""A promotion that was begun longer ago has moved the alias, or never will."""


@dataclass(frozen=True)
class Promoted:
    """What was done: the alias of `name` moved from version `before` to `version`, by the comparison of `run_id`.

    `status`: promoted, or unchanged where it was there already.
    """

    status: str
    name: str
    alias: str
    before: str
    version: str
    run_id: str


@dataclass(frozen=True)
class _Comparison:
    """A published run that compared challengers: its record, what it found, and where it is recorded."""

    record: Mapping[str, Any]
    challengers: Sequence[Mapping[str, Any]]
    state: Location


def promote(job: Job, version: str, runs: Iterable[tuple[Job, Mapping[str, Any]]]) -> Promoted:
    """Move the alias to the version, if the last comparison was of the two and passes the job's `promotion`.

    `runs`: the job's recorded runs, the newest first, each with the job as its date fills it in. Raises Blocked where a
    rule stands against it, or the alias has moved since that comparison; ConfigError where the version was not
    compared; Unavailable where somebody else is promoting.
    """
    if job.model.by is not None:
        raise ConfigError(
            f"model.by: promote is for jobs of one model, and this one has a model for each value of {job.model.by}: "
            "move their aliases in MLflow"
        )
    rules, (name, alias) = job.promotion, _alias_of(job)
    if rules is None:
        raise ConfigError("promotion: the job has no rules for it: add for example promotion: {max_flips: 0.02}")
    last = _last_comparison(job, runs)
    run, before = str(last.record["run_id"]), str(last.record["model_version"])
    if last.record["model_name"] != name:
        raise ConfigError(
            f"model.uri: the last comparison (run {run}) was with {last.record['model_name']} v{before}, and the job "
            f"names {name} now: score, so that they are compared"
        )
    found = [c for c in last.challengers if (c["name"], c["version"]) == (name, version)]
    if not found:
        raise _not_compared(name, version, last)
    now = models.resolve(job.model).version
    if now == version:
        return Promoted("unchanged", name, alias, before, version, run)
    if against := [problem for challenger in found for problem in problems(rules, challenger)]:
        listed = "".join(f"\n  {problem}" for problem in against)
        raise Blocked(f"{name} v{version} is not promoted, by the comparison of run {run}:{listed}")
    if now == before:
        _enter(last.state, name, alias, before, version, run)
    models.move_alias(job.model, name, alias, before, version)
    return Promoted("promoted", name, alias, before, version, run)


def _not_compared(name: str, version: str, last: _Comparison) -> ConfigError:
    """Why a version can't be promoted; a challenger's name is not taken for its version, and neither is a near one."""
    run = last.record["run_id"]
    for challenger in last.challengers:
        if challenger["label"] == version and challenger["name"] == name:
            number = challenger["version"]
            return ConfigError(f"{version!r} is the name of a challenger, version {number} of {name}: promote {number}")
        if challenger["label"] == version:
            other = f"{challenger['name']} v{challenger['version']}"
            return ConfigError(f"{version!r} is another model, {other}, to which no alias of {name} can move")
    versions = sorted({str(c["version"]) for c in last.challengers if c["name"] == name})
    return ConfigError(
        f"version {version!r} of {name} was not compared by the last comparison (run {run}), which was with "
        f"{', '.join(versions) or 'no version of it'}: name it in model.challengers and score"
    )


def _alias_of(job: Job) -> tuple[str, str]:
    name, found, alias = job.model.uri.removeprefix("models:").strip("/").partition("@")
    if not found or not job.model.uri.startswith("models:"):
        raise ConfigError(
            f"model.uri: {job.model.uri!r} names no alias that could move: use models:/{name.split('/')[0]}@<alias>"
        )
    return name, alias


def _last_comparison(job: Job, runs: Iterable[tuple[Job, Mapping[str, Any]]]) -> _Comparison:
    """The newest published run that compared challengers."""
    for dated, record in runs:
        if record["status"] == "published":
            with catalog.resolve_names(dated) as at_places:
                state = naming.state_of(at_places)
            facts = evidence.facts_of(state, record)
            if facts and facts.get("challengers"):
                return _Comparison(record, facts["challengers"], state)
    raise ConfigError(f"no published run of {job.job} compared a challenger: name some in model.challengers and score")


def problems(rules: Promotion, challenger: Mapping[str, Any]) -> Iterator[str]:
    """What a job's rules have against a challenger, by the figures of `runs.comparing.facts`."""
    rows, failed, predictions = challenger["rows"], challenger["failed"], challenger["predictions"]
    if otherwise := challenger.get("otherwise"):
        keys = " and ".join(f"model.{key}" for key in otherwise)
        yield f"it was compared with other {keys} than the job's, which it would have from then on"
    if rows < rules.min_rows:
        yield f"only {rows:,} rows were compared, min_rows asks for {rules.min_rows:,}"
    if failed > rules.max_failed * rows:
        yield f"it failed on {failed:,} of {rows:,} rows, max_failed allows {rules.max_failed:.2%}"
    for prediction in predictions:
        if (missing := prediction.get("missing", 0)) > max(failed, rules.max_failed * rows):
            yield f"it gives no {prediction['name']} for {missing:,} of {rows:,} rows, max_failed allows as failures do"
    if rules.max_flips is not None:
        yield from _flips(rules.max_flips, predictions)
    if rules.max_shift is not None:
        yield from _shifts(rules.max_shift, predictions, str(challenger["by"]))


def _flips(most: float, predictions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    told = [p for p in predictions if p["flips"] is not None]
    if not told:
        yield "no prediction is a label or a decision, as max_flips asks for: give one a threshold, or set max_shift"
    for prediction in told:
        name, flips, many = prediction["name"], prediction["flips"], prediction["rows"]
        if flips > most * many:
            yield f"{name} differs in {flips / many:.2%} of the rows, max_flips allows {most:.2%}"


def _shifts(most: float, predictions: Sequence[Mapping[str, Any]], by: str) -> Iterator[str]:
    told = [p for p in predictions if p["shift"] is not None]
    if not told:
        yield "no prediction is a number, as max_shift asks for: set max_flips"
    pooled = [part for prediction in told if (part := _pooled(prediction["segments"]))]
    if pooled:
        rows = max(part["rows"] for part in pooled)
        yield (
            f"{by} has more than {MOST_SEGMENTS} values, only {MOST_SEGMENTS} are kept apart and {rows:,} rows of "
            "others are in one, so that max_shift can't be held against each: score with another comparison.by, "
            "of fewer values"
        )
    for prediction in told:
        for part in [prediction, *prediction["segments"]]:
            shift = part["shift"]
            if shift is not None and not abs(shift) <= most:  # a NaN is no small shift
                where = f" where {by} is {part['segment']}" if "segment" in part else ""
                yield f"the mean of {prediction['name']} moves by {shift:+.4g}{where}, max_shift allows {most:g}"


def _pooled(segments: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The segment of the values that are not kept apart, if it has rows."""
    if len(segments) < MOST_SEGMENTS:  # of an older comparison, in which the text itself could be a value's name
        return None
    return next((part for part in segments if part["segment"] == OTHERS and part["rows"]), None)


def _enter(state: Location, name: str, alias: str, before: str, version: str, run: str) -> None:
    """Take the alias's next number in the table of promotions. Raises Unavailable where somebody else is at it."""
    place, mine, now = state.join("promotions"), str(uuid.uuid4()), ledger.now()
    earlier = _entered(place, name, alias)
    if earlier and earlier[-1]["before"] == before and now - earlier[-1]["begun_at"] < _AT_WORK:
        raise Unavailable(_others(name, alias, earlier[-1]))
    number = len(earlier) + 1
    values = (mine, number, name, alias, before, version, run, now)
    row = pa.RecordBatch.from_pylist([dict(zip(PROMOTIONS.names, values, strict=True))], schema=PROMOTIONS)
    tables.append(place, row, f"promotion/{name}@{alias}/{number}", "Promotions", formats.PROMOTION)
    taken = next(row for row in _entered(place, name, alias) if row["number"] == number)
    if taken["id"] != mine:
        raise Unavailable(_others(name, alias, taken))


def moves(state: Location, name: str, alias: str) -> list[dict[str, Any]]:
    """The promotions that moved an alias, or were about to, in their order."""
    return _entered(state.join("promotions"), name, alias)


def _entered(place: Location, name: str, alias: str) -> list[dict[str, Any]]:
    """The promotions of an alias, in their order."""
    rows = tables.rows(place, PROMOTIONS.names, formats.PROMOTION, {"model_name": name, "alias": alias})
    return sorted(rows, key=lambda row: row["number"])


def _others(name: str, alias: str, row: Mapping[str, Any]) -> str:
    return (
        f"{name}@{alias} is being moved to version {row['version']} since {row['begun_at']:%H:%M:%S} UTC by another "
        "promote: see where it is in a minute, then try again"
    )
