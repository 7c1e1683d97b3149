"""What of a job's sections does not go together: columns that clash, tables that would be lost, no place for state."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakehouse.config.job import Job


def problems_of(job: Job) -> list[str]:
    """One line a problem, each with its key; the sinks are not compared where two tables are the same."""
    tables = list(_table_problems(job)) or _sink_problems(job)
    return [
        *_model_problems(job),
        *_name_problems(job),
        *tables,
        *(_range_problems(job) if job.source.IN_RANGES else ()),
    ]


def _model_problems(job: Job) -> Iterator[str]:
    """A place for model versions that nobody asked for, or that is on no machine."""
    if job.model.cache is not None and "://" in job.model.cache:
        yield f"model.cache: {job.model.cache!r} must be a folder on this machine"
    if job.model.cache is not None and job.model.offline == "refused":
        yield "model.cache: nothing is kept there without model.offline: allowed"
    if job.model.isolation.model_fields_set and job.model.environment != "isolated":
        yield "model.isolation: there is nothing to isolate without model.environment: isolated"
    if job.publish.hold == "when_drifted" and job.checks.drift is None:
        yield "publish.hold: when_drifted needs checks.drift, which says how far is too far"
    yield from _many_problems(job) if job.model.by is not None else _one_problems(job)


def _one_problems(job: Job) -> Iterator[str]:
    """Keys and braces that mean something only where a column says which model is meant."""
    if braced := re.search(r"\{[^{}]*\}", job.model.uri):
        column = braced[0].strip("{} ") or "<column>"
        yield f"model.uri: {braced[0]} is not filled in: for a model a value of this column add model.by: {column}"
    if job.model.missing != "quarantine":
        yield "model.missing: no model can be missing without model.by"


def _many_problems(job: Job) -> Iterator[str]:
    """What a model a value of a column does not go together with."""
    model = job.model
    braced = f"{{{model.by}}}"
    if model.by == "date":
        yield "model.by: 'date': {date} is the run's date, not a column's value: give the column another name"
    elif braced not in model.uri and (others := re.findall(r"\{([^{}]+)\}", model.uri)):
        near = next(iter(difflib.get_close_matches(str(model.by), others, n=1)), others[0])
        yield (
            f"model.by: {model.by!r} is not what is in braces in model.uri ({model.uri}): correct model.by, "
            f"which would be {near!r}, or write {braced} instead of {{{near}}} in model.uri"
        )
    elif model.uri.count(braced) != 1 or re.search(r"[{}]", model.uri.replace(braced, "", 1)):
        yield f"model.uri: {model.uri!r} must have {braced} in it, once, and nothing else in braces"
    elif not re.fullmatch(r"models:/[^/@]+(@[^/@]+|/[1-9][0-9]*)", model.uri):
        yield f"model.uri: {model.uri!r}: with model.by it must be models:/<name with {braced}>@<alias>"
    clashes = {"challengers": model.challengers, "signature": model.signature, "offline": model.offline == "allowed"}
    for key, given in clashes.items():
        if given:
            yield f"model.{key}: does not go together with model.by"
    if job.explanations is not None:
        yield "explanations: does not go together with model.by"
    if job.promotion is not None:
        yield "promotion: does not go together with model.by: lakehouse promote is for jobs of one model"
    if model.environment == "isolated":
        yield "model.environment: isolated is for one model; with model.by, use strict or warn"


def _name_problems(job: Job) -> Iterator[str]:
    """Columns of the scored table that clash, without regard to case as in Spark, or take a lineage name."""
    given = [("keys", name) for name in job.keys] + [("keep", name) for name in job.keep]
    computed = [("predictions", name) for name in job.predictions or ()]
    computed += [("slice", name) for name in job.slice]
    taken: dict[str, str] = {}
    for section, name in given + computed:
        if name.lower() in taken:
            yield f"{section}: {name!r} is already a column of the scored table, by {taken[name.lower()]}"
        taken.setdefault(name.lower(), f"{section} ({name!r})")
    for section, name in computed:
        if name.startswith("_"):
            yield f"{section}: {name!r} begins with '_', as only lineage columns may"
    for section, name in given:
        if name.startswith("_") and name.lower() in _lineage():
            yield f"{section}: {name!r} is the name of a lineage column: rename it in the input"
    labels = [challenger.label for challenger in job.model.challengers]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        yield f"model.challengers: two are called {twice!r}: give one of them a name of its own (name: …)"
    if job.comparison.by is not None and job.comparison.by not in (*job.keys, *job.keep):
        yield f"comparison.by: {job.comparison.by!r} is none of keys and keep, whose values the scored rows have"
    if job.predictions == {}:
        yield "predictions: name at least one column, or leave the section out"


def _lineage() -> set[str]:
    # here, since it imports pyarrow, which takes its time
    from lakehouse.schemas import EXPLANATIONS, FEATURE_DIGEST, LINEAGE, REASONS

    return {*LINEAGE.names, EXPLANATIONS, FEATURE_DIGEST, REASONS}


def _table_problems(job: Job) -> Iterator[str]:
    """Sinks that would write over the input, the quarantine or one another, and appends that have a slice."""
    taken: dict[str, str] = {}
    if job.source.table is not None:
        taken[job.source.key_of(job.source.table)] = "source.table"
    if job.checks.quarantine.table is not None:
        taken[job.sinks[0].key_of(job.checks.quarantine.table)] = "checks.quarantine.table"
    if job.comparison.table is not None:
        key = job.sinks[0].key_of(job.comparison.table)
        if key in taken:
            yield f"comparison.table: {job.comparison.table!r} is also {taken[key]}"
        taken.setdefault(key, "comparison.table")
    for number, sink in enumerate(job.sinks):
        key = sink.key_of(sink.table)
        if key in taken:
            yield f"sinks.{number}.table: {sink.table!r} is also {taken[key]}"
        taken.setdefault(key, f"sinks.{number}.table")
        if sink.write == "append" and job.slice:
            yield f"sinks.{number}.write: append needs a job without slice; with one, use replace"


def _sink_problems(job: Job) -> Iterator[str]:
    """What can't be published together, and where run state would have no place."""
    if len({sink.write for sink in job.sinks}) > 1:
        yield "sinks: all must be written in one way (write), since one run fills them all"
    if sum(sink.HOLDS_STAGED_FILES for sink in job.sinks) > 1:
        yield "sinks: one Delta table at most, since the staged files become its own; copy it, or give it a job"
    if job.receipts is not None and (other := next((s.type for s in job.sinks if not s.KEEPS_RECEIPTS), None)):
        yield f"receipts: a table of type {other} keeps none: leave the section out, or publish to another system"
    if job.delta_sink is None and job.state is None:
        yield "state: missing, a folder for staged files and run records: there is no Delta sink to keep it beside"


def _range_problems(job: Job) -> Iterator[str]:
    """What does not go together with an input of which each run takes what came since the last one."""
    kind = f"source.type: {job.source.type}"
    for number, sink in enumerate(job.sinks):
        if sink.write != "append":
            yield f"sinks.{number}.write: {kind} needs write: append, since a run has only what came since the last one"
    for number, stream in enumerate(job.publish_events):
        if stream.is_read_as(job.source):
            yield f"publish_events.{number}: the job reads that very stream: its events would be scored as messages"
    if job.model.challengers:
        yield f"model.challengers: does not go together with {kind} yet"
    if job.publish.hold is not None:
        yield f"publish.hold: does not go together with {kind} yet: the next run would take the same messages"
