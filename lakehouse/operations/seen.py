"""Whether what scores are recalled for was ever there: what no run, no registry and no input had is a slip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse import models, sources
from lakehouse.errors import ConfigError, LakehouseError, Unavailable
from lakehouse.operations import dated
from lakehouse.operations.standing import Live
from lakehouse.planning import catalog, naming
from lakehouse.runs import evidence, ledger

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.storage import Location

Used = tuple[str, str, str, int]
"""The name, version and digest of a model, and how many rows a run scored with it."""


def models_of(state: Location, said: Mapping[str, Any], rows: int) -> list[Used] | None:
    """A run's model, or each where it had many; None where that isn't known. `rows`: that the run has."""
    if not said or ("date" not in said and str(said["model_version"]).endswith(" versions")):
        return None
    if not said.get("model_count"):
        return [(str(said["model_name"]), str(said["model_version"]), str(said["model_digest"]), rows)]
    listed = ((evidence.facts_of(state, said) or {}).get("models") or {}).get("listed")
    if not listed:
        return None
    return [(str(name), str(version), str(digest), int(rows)) for _, name, version, digest, rows in listed]


def require_model(
    given: str, named: tuple[str | None, str, str], load: dated.Load, live: Sequence[Live]
) -> tuple[str, ...]:
    """Raise ConfigError for a model that no run has used and the registry doesn't have; what else there is to say.

    `named`: its name, version and digest as far as these are given. A digest is known of runs only.
    """
    name, version, digest = named
    used = {model[:3] for model in _models_used(load, live)}
    if any(d.startswith(digest) if digest else v == version and name in (None, n) for n, v, d in used):
        return ()
    job = load(dated.ANY)
    on_record = ", ".join(sorted(f"{n}/{v} (sha256:{d[:8]})" for n, v, d in used)) or "none"
    if digest:
        raise ConfigError(
            f"--model {given}: no run of {job.job} had a model whose digest begins like that; those it had: {on_record}"
        )
    said = ""
    for one in [name] if name else sorted({n for n, _, _ in used} | _named_in(job)):
        try:
            models.resolve(job.model.model_copy(update={"uri": f"models:/{one}/{version}"}))
            return ()
        except ConfigError as error:
            said = str(error).removeprefix("model.uri: ")
        except Unavailable as error:
            return (f"whether there is a model {given} could not be looked up: {error}",)
    raise ConfigError(
        f"--model {given}: no run of {job.job} used it, and its registry has no such version "
        f"({said or 'no model is named'}); those used: {on_record}"
    )


def _named_in(job: Job) -> set[str]:
    """The name of the registered model that a job file has, where it is one for all rows."""
    uri = job.model.uri
    name = uri.removeprefix("models:/").split("@")[0].split("/")[0]
    return {name} if uri.startswith("models:/") and "{" not in name else set()


def _models_used(load: dated.Load, live: Sequence[Live]) -> Iterator[Used]:
    for one in live:
        if "date" not in one.record:
            yield from models_of(one.state, one.record, 0) or ()
    for state, record in _records(load):
        yield from models_of(state, record, 0) or ()


def _records(load: dated.Load) -> Iterator[tuple[Location, Mapping[str, Any]]]:
    seen = set[str]()
    for job in dated.with_tables(load):
        with catalog.open_job(job, "recall") as at_places:
            state = naming.state_of(at_places)
            if state.uri not in seen:
                seen.add(state.uri)
                yield from ((state, record) for record in ledger.runs(state, job.job))


def require_version(version: int, load: dated.Load, live: Sequence[Live]) -> None:
    """Raise ConfigError for a version of the input that no run has read and the input doesn't have."""
    read = {one.record.get("input_version") for one in live} | {r["input_version"] for _, r in _records(load)}
    if version in read:
        return
    why = "versions begin with 0"
    if version >= 0:
        try:
            with catalog.open_job(load(dated.ANY), "recall") as job:
                source = sources.of(job.source.type)
                pinned = source.pin(source.at_version(job.source, version), ())
            if pinned.version == version:
                return
            why = f"{pinned.name} is at version {pinned.version}"
        except LakehouseError as error:
            why = str(error)
    known = ", ".join(str(one) for one in sorted(one for one in read if one is not None)[-10:]) or "none"
    raise ConfigError(f"--input-version {version}: no run has read it ({why}); the newest that were read: {known}")


def not_on_record(live: Sequence[Live]) -> tuple[str, ...]:
    """That runs with live rows have no record, if there are any, and what to do."""
    lost = {one.living.run for one in live if "date" not in one.record}
    if not lost:
        return ()
    runs = "1 run with live rows has" if len(lost) == 1 else f"{len(lost):,} runs with live rows have"
    return (f"{runs} no record, so that their dates aren't known: {ledger.RECONCILE}",)
