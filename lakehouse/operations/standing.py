"""Live scores, by slice and run, with what they stand on: told by the ledger and the tables' logs, not by rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakehouse import sinks
from lakehouse.errors import ConfigError
from lakehouse.operations import dated
from lakehouse.planning import catalog, naming
from lakehouse.runs import ledger
from lakehouse.sinks import Living
from lakehouse.sinks.target import slice_name, uri_of

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.storage import Location

MODEL, INPUT_VERSION, INPUT_FILE = "model", "input_version", "input_file"


@dataclass(frozen=True)
class Question:
    """What scores are looked for: by exactly one of a model's version, the input's version, and a file of the input.

    `model`: a version's number, name/number, or a digest, whole or its first 8 digits or more. `first`, `last`: the
    dates between which a run's is, both included.
    """

    model: str | None = None
    input_version: int | None = None
    input_file: str | None = None
    first: str | None = None
    last: str | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for none or several, for a date that is none, and for dates the wrong way round."""
        given = [one for one in (self.model, self.input_version, self.input_file) if one is not None]
        if len(given) != 1:
            raise ConfigError("recall: give exactly one of --model, --input-version and --input-file")
        for option, text in (("--from", self.first), ("--to", self.last)):
            if text is not None:
                dated.parse(text, option)
        if self.first and self.last and self.last < self.first:
            raise ConfigError(f"--to {self.last} lies before --from {self.first}")

    def has(self, date: str | None) -> bool:
        """Whether a run's date is among those that are asked for."""
        if self.first is None and self.last is None:
            return True
        return date is not None and (self.first or date) <= date <= (self.last or date)


@dataclass(frozen=True)
class Standing:
    """Live rows of a run in a slice of a table, and what they stand on.

    `rows`: how many surely; `perhaps`: there may be more, or any at all where that is 0. `doubt`: why it can't be told
    whether they stand on what is asked for, empty where they do.
    """

    date: str | None
    slice: str
    table: str
    run_id: str
    rows: int
    perhaps: bool
    model_name: str
    model_version: str
    model_digest: str
    input_table: str
    input_version: int | None
    doubt: str = ""


@dataclass(frozen=True)
class Recalled:
    """The live scores that stand on what was asked for, those of which it can't be told, and what else there is to say.

    `by`: the kind of what was asked for, `what` its name. `still`: that a run would read the file again, if it would.
    """

    by: str
    what: str
    standing: tuple[Standing, ...]
    unknown: tuple[Standing, ...]
    notes: tuple[str, ...] = ()
    still: str = ""

    @property
    def dates(self) -> list[str | None]:
        """The dates of what stands on it, in order."""
        return sorted({one.date for one in self.standing}, key=lambda day: day or "")


@dataclass(frozen=True)
class Live:
    """A run with live rows: its record, or what its table keeps of it, and the job as its tables were found."""

    job: Job
    state: Location
    table: str
    living: Living
    record: Mapping[str, Any]

    def standing(self, doubt: str = "", rows: int | None = None) -> Standing:
        """As it is told. `rows`: of those that live, how many it is about, None for all."""
        said, living = self.record, self.living
        name, version, digest = (str(said.get(f"model_{part}") or "") for part in ("name", "version", "digest"))
        return Standing(
            date=said.get("date"),
            slice=slice_name(living.slice),
            table=self.table,
            run_id=living.run,
            rows=living.rows if rows is None else rows,
            perhaps=living.perhaps,
            model_name=name,
            model_version=version,
            model_digest=digest,
            input_table=str(said.get("input_table") or ""),
            input_version=said.get("input_version"),
            doubt=doubt,
        )


@dataclass
class Found:
    """What is found on the way to an answer."""

    standing: list[Standing] = field(default_factory=list)
    unknown: list[Standing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def all_live(load: dated.Load) -> Iterator[Live]:
    """Every run of the job that has live rows in its first scored table; the other sinks hold the same rows."""
    seen = set[str]()
    for job in dated.with_tables(load):
        with catalog.open_job(job, "recall") as at_places:
            first, state = at_places.sinks[0], naming.state_of(at_places)
            uri = uri_of(first)
            if uri in seen:
                continue
            seen.add(uri)
            sink = sinks.of(first.type)
            records = {str(one["run_id"]): one for one in ledger.runs(state, job.job)}
            for living in sink.living(first, job.job, {run: str(one["identity"]) for run, one in records.items()}):
                record = records.get(living.run) or living.said
                yield Live(at_places, state, sink.display_name(uri), living, record)
