"""Promote a challenger: the alias of a job's model moves to it, if the last comparison passes the job's rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse import models
from lakehouse.errors import Blocked, ConfigError, nearest
from lakehouse.planning.naming import state_of
from lakehouse.runs import evidence, ledger

if TYPE_CHECKING:
    from lakehouse.config import Job, Promotion


@dataclass(frozen=True)
class Promoted:
    """What was done: the alias of `name` moved from version `before` to `version`, by the comparison of `run_id`."""

    name: str
    alias: str
    before: str
    version: str
    run_id: str


def promote(job: Job, version: str) -> Promoted:
    """Move the alias to the version, if the newest published run compared it and the job's `promotion` allows it.

    Raises Blocked where a rule stands against it, or the alias moved since that comparison; ConfigError where no
    comparison is known.
    """
    rules, (name, alias) = job.promotion, _alias_of(job)
    if rules is None:
        raise ConfigError("promotion: the job has no rules for it: add for example promotion: {max_flips: 0.02}")
    record, challengers = _last_comparison(job)
    versions = [c["version"] for c in challengers if c["name"] == name]
    challenger = next((c for c in challengers if c["name"] == name and c["version"] == version), None)
    if challenger is None:
        raise ConfigError(
            f"version {version!r} of {name} was not compared by run {record['run_id']}, "
            f"{nearest(version, versions)}: name it in model.challengers and score"
        )
    if against := list(problems(rules, challenger)):
        raise Blocked(f"{name} v{version} is not promoted: {'; '.join(against)} (run {record['run_id']})")
    before = str(record["model_version"])
    models.move_alias(job.model, name, alias, before, version)
    return Promoted(name, alias, before, version, str(record["run_id"]))


def _alias_of(job: Job) -> tuple[str, str]:
    name, found, alias = job.model.uri.removeprefix("models:").strip("/").partition("@")
    if not found:
        raise ConfigError(f"model.uri: {job.model.uri!r} names no alias that could move: use models:/{name}@<alias>")
    return name, alias


def _last_comparison(job: Job) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """The record of the newest published run that compared challengers, and what it found."""
    state = state_of(job)
    for record in ledger.runs(state, job.job):
        if record["status"] == "published":
            facts = evidence.facts_of(state, record)
            if facts and facts.get("challengers"):
                return record, facts["challengers"]
    raise ConfigError(f"no published run of {job.job} compared a challenger: name some in model.challengers and score")


def problems(rules: Promotion, challenger: Mapping[str, Any]) -> Iterator[str]:
    """What a job's rules have against a challenger, by the figures of `runs.comparing.facts`."""
    rows, failed = challenger["rows"], challenger["failed"]
    if rows < rules.min_rows:
        yield f"only {rows:,} rows were compared, min_rows asks for {rules.min_rows:,}"
    if failed > rules.max_failed * rows:
        yield f"it failed on {failed:,} of {rows:,} rows, max_failed allows {rules.max_failed:.2%}"
    for prediction in challenger["predictions"]:
        name, flips, many = prediction["name"], prediction["flips"], prediction["rows"]
        if rules.max_flips is not None and flips is not None and flips > rules.max_flips * many:
            yield f"{name} differs in {flips / many:.2%} of the rows, max_flips allows {rules.max_flips:.2%}"
        for part in [prediction, *prediction["segments"]]:
            shift, where = part["shift"], part.get("segment")
            if rules.max_shift is not None and shift is not None and abs(shift) > rules.max_shift:
                place = f" where {challenger['by']} is {where}" if where is not None else ""
                yield f"the mean of {name} moves by {shift:+.4g}{place}, max_shift allows {rules.max_shift:g}"
