"""Which live scores stand on a model version, a version of the input, or a file of it; and these slices scored again.

All of it is told by the ledger and the logs of the tables: nothing that is read grows with rows.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lakehouse import models, sources
from lakehouse.errors import ConfigError
from lakehouse.operations import dated, seen
from lakehouse.operations.backfill import Asked, Outcome, Shown, backfill
from lakehouse.operations.standing import (
    INPUT_FILE,
    INPUT_VERSION,
    MODEL,
    Found,
    Live,
    Question,
    Recalled,
    Standing,
    all_live,
)
from lakehouse.planning import catalog
from lakehouse.runs import evidence
from lakehouse.sources import FileUse
from lakehouse.storage import display_name, locate

if TYPE_CHECKING:
    from lakehouse.config import Job

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})…?")


def recall(load: dated.Load, question: Question) -> Recalled:
    """The live scores that the question is about. Raises ConfigError where what it names can't be, or isn't clear."""
    every = list(all_live(load))
    live = [one for one in every if question.has(one.record.get("date")) or "date" not in one.record]
    found, still = Found(notes=list(seen.not_on_record(live))), ""
    if question.model is not None:
        by, what = MODEL, _by_model(question.model, live, found)
        if not found.standing:
            found.notes += seen.require_model(question.model, _model_named(question.model), load, every)
    elif question.input_version is not None:
        by, what = INPUT_VERSION, _by_version(question.input_version, live, found)
        if not found.standing:
            seen.require_version(question.input_version, load, every)
    else:
        by, (what, still) = INPUT_FILE, _by_file(str(question.input_file), load, live, found)
    if any(one.perhaps for one in found.standing):
        found.notes.append(
            "where rows of several runs stand in one file, as after a merge or OPTIMIZE, the log doesn't tell how many "
            "of each are left, if any: those are said to be perhaps there"
        )
    if question.first or question.last:
        _doubt_dates(found, {one.living.run for one in live if "date" not in one.record})
    return Recalled(by, what, _ordered(found.standing), _ordered(found.unknown), tuple(found.notes), still)


def _doubt_dates(found: Found, lost: set[str]) -> None:
    """Of runs without a record it can't be told whether their dates are among those that are asked for."""
    doubt = "it is not on record, so that its date isn't known"
    found.unknown += [replace(one, doubt=doubt) for one in found.standing if one.run_id in lost]
    found.standing = [one for one in found.standing if one.run_id not in lost]


def _ordered(found: Sequence[Standing]) -> tuple[Standing, ...]:
    return tuple(sorted(found, key=lambda one: (one.date or "", one.slice, one.table, one.run_id)))


def _by_model(given: str, live: Sequence[Live], found: Found) -> str:
    """Those whose model it was; what it is called in full."""
    name, version, digest = _model_named(given)
    matched, names = [], set[str]()
    for one in live:
        used = seen.models_of(one.state, one.record, one.living.rows)
        if used is None:
            found.unknown.append(one.standing("its models are not on record any more"))
            continue
        mine = [
            model for model in used
            if (model[2].startswith(digest) if digest else model[1] == version and name in (None, model[0]))
        ]  # fmt: skip
        names |= {f"{model[0]}/{model[1]}" for model in mine}
        if mine:
            matched.append((one, mine, len(used)))
    if len(names) > 1 and not digest:
        raise ConfigError(f"--model {given}: that may be {' or '.join(sorted(names))}: name one of them")
    if digest and len({model[2] for _, mine, _ in matched for model in mine}) > 1:
        raise ConfigError(f"--model {given}: several models' digests begin like that: give more of its digits")
    for one, mine, of in matched:
        told = one.standing()
        if of > 1:  # a model a value of a column: its part of the run's rows, which are told only for all of them
            part = sum(model[3] for model in mine)
            whole = one.living.rows == one.record.get("rows_scored") and not one.living.perhaps
            told = one.standing(rows=part if whole else 0)
            told = replace(told, perhaps=not whole, model_name=mine[0][0], model_version=mine[0][1])
            told = replace(told, model_digest=mine[0][2])
            if whole and not part:
                continue
        found.standing.append(told)
    return f"model {min(names)}" if names else f"model {given}"


def _model_named(given: str) -> tuple[str | None, str, str]:
    """The name, version and digest that are given, each as far as it is."""
    text = given.removeprefix("models:/").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return None, text, ""
    if named := re.fullmatch(r"(.+)/([0-9]{1,9})", text):
        return named[1], named[2], ""
    if digest := _DIGEST.fullmatch(text):
        return None, "", digest[1]
    raise ConfigError(
        f"--model {given!r}: give a version's number, such as 3 or churn/3, or 8 digits or more of a digest, such as "
        "sha256:0f3a9c71"
    )


def _by_version(version: int, live: Sequence[Live], found: Found) -> str:
    """Those whose input was this version."""
    for one in live:
        if not one.record:
            found.unknown.append(one.standing("it is not on record, and its table's log doesn't tell any more"))
        elif one.record.get("input_version") == version:
            found.standing.append(one.standing())
    tables = sorted({one.input_table for one in found.standing})
    if len(tables) > 1:
        found.notes.append(f"version {version} is one of several input tables: {', '.join(tables)}")
    return f"version {version} of {tables[0]}" if len(tables) == 1 else f"version {version} of the input"


def _by_file(file: str, load: dated.Load, live: Sequence[Live], found: Found) -> tuple[str, str]:
    """Those that read this file: what it is, and why a run would read it again, if it would.

    The log says of which versions of the input it was part; of these a run read it if it can hold rows of its `where`.
    """
    groups, source_of = dict[str, tuple[Any, list[Live]]](), _sources(load)
    for one in live:
        if "date" not in one.record:
            found.unknown.append(one.standing("it is not on record, so that its condition on rows isn't known"))
            continue
        source, read = source_of(one.record["date"]), one.record["input_table"]
        now = display_name(locate(source.table)) if source.IN_FILES else read
        if read != now:
            found.unknown.append(one.standing(f"it read {read}, and the job names {now} now"))
            continue
        groups.setdefault(now, (source, []))[1].append(one)
    if not groups and (found.unknown or source_of(None) != source_of(dated.OTHER)):
        return f"file {file}", ""
    groups = groups or {"": (source_of(None), [])}  # nobody can have read it, but it may be a slip
    uses = [(source, *_ask(file, source, ones, found)) for source, ones in groups.values()]
    known = [(source, use) for source, use, _ in uses if use.known]
    if not known and all(use.since == 0 for _, use, _ in uses):
        names = ", ".join(source.name for source, _, _ in uses[:5])
        raise ConfigError(f"--input-file: {file} never was a file of {names}: give its path below the table")
    for _, use, asked in uses:
        for one, used in zip(asked, use.used, strict=True):
            if used:
                found.standing.append(one.standing())
            elif used is None:
                doubt = f"the input's log goes back to version {use.since} only"
                found.unknown.append(one.standing(doubt))
    found.notes += [_life_in_words(source.name, use) for source, use in known]
    still = next((f"{use.path} is still a file of {source.name}" for source, use in known if use.removed is None), "")
    return f"file {known[0][1].path if known else file}", still


def _ask(file: str, source: Any, ones: Sequence[Live], found: Found) -> tuple[FileUse, list[Live]]:
    """Who of these runs of one source read the file, and of which of them that was asked."""
    asked, readings = list[Live](), list[tuple[int, str | None]]()
    for one in ones:
        facts, version = evidence.facts_of(one.state, one.record), one.record["input_version"]
        if facts is None or version is None:
            found.unknown.append(one.standing("its report is gone, and with it the condition on rows that it had"))
        else:
            asked.append(one)
            readings.append((int(version), facts["input"]["where"]))
    return sources.of(source.type).use_of_file(source, file, readings), asked


def _sources(load: dated.Load) -> Callable[[str | None], Any]:
    """By a run's date the source that the job names now."""

    @functools.cache
    def source(day: str | None) -> Any:
        with catalog.open_job(load(day or dated.ANY), "recall") as at_places:
            return at_places.source

    same = source(dated.ANY).table == source(dated.OTHER).table
    return (lambda day: source(None)) if same else source


def _life_in_words(table: str, use: FileUse) -> str:
    came = f"was added by version {use.added}" if use.added is not None else f"was there before version {use.since + 1}"
    went = "is still there" if use.removed is None else f"was removed by version {use.removed}"
    return f"{use.path} of {table} {came} and {went}"


def rescore(
    load: dated.Load, asked: Asked, recalled: Recalled, parallel: int, *, keep_going: bool, shown: Shown
) -> list[Outcome]:
    """Score the slices of what was recalled again, as `backfill` does; how each ended.

    Raises ConfigError, before anything is scored, where a run would stand on the very same again.
    """
    days = [day or "" for day in recalled.dates]
    if not days:
        return []
    _require_changed(load(days[0]), recalled)
    return backfill(replace(asked, rescore=True), days, parallel, keep_going=keep_going, shown=shown)


def _require_changed(job: Job, recalled: Recalled) -> None:
    """Raise ConfigError where the job still has the model, the version or the file that its scores are recalled for."""
    still = recalled.still
    if recalled.by == MODEL and job.model.uri.startswith("models:/"):
        now = models.resolve(job.model)
        have = {(one.name, one.version) for one in (now, *(member for _, member in now.members))}
        same = [one for one in recalled.standing if (one.model_name, one.model_version) in have]
        still = f"{job.model.uri} is still {same[0].model_name} v{same[0].model_version}" if same else ""
    elif recalled.by == INPUT_VERSION and recalled.standing:
        with catalog.open_job(job, "recall") as at_places:
            pinned = sources.of(at_places.source.type).pin(at_places.source, ())
        same = [
            one for one in recalled.standing if (one.input_table, one.input_version) == (pinned.name, pinned.version)
        ]
        still = f"{pinned.name} is still at version {pinned.version}" if same else ""
    if still:
        raise ConfigError(f"--rescore: {still}, so that scores would stand on it again: change that first")
