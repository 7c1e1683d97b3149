"""What a run's scores stand on, by its record, and its input as it had it: at its version, or of its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import sources
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import EXPLANATIONS
from lakehouse.sources import PinnedInput, Unit

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class Basis:
    """What scores stand on, by a run's record or by the row itself; what isn't on record is None.

    `models`: where a column says which model a row is for, (value, name, version) of each. `explaining`: what the
    explanations of scores were held against (`explanations.from_record`), where there are any.
    """

    run_id: str
    model: str
    version: str
    digest: str | None
    input_version: int | None
    fingerprint: str | None = None
    models: tuple[tuple[str, ...], ...] = ()
    explaining: Mapping[str, Any] | None = None


UNKNOWN = f"{EXPLANATIONS} is not compared: what the run's were held against is not on record"


def is_unknown(schema: pa.Schema, basis: Basis, facts: Mapping[str, Any] | None) -> bool:
    """Whether a table has explanations that can't be made again, as far as the run's facts tell."""
    may_have = facts is None or facts.get("explained") is not None
    return EXPLANATIONS in schema.names and basis.explaining is None and may_have


def basis_of(record: Mapping[str, Any], listed: Sequence[Sequence[str]] = ()) -> Basis:
    """What a run's scores stand on, by its record; `listed`: the models of a run that had many."""
    return Basis(
        str(record["run_id"]),
        record["model_name"],
        record["model_version"],
        record["model_digest"],
        record["input_version"],
        record["fingerprint"],
        tuple(tuple(str(text) for text in one[:3]) for one in listed),
    )


@dataclass(frozen=True)
class Input:
    """The input as a run read it. `columns`: those that are read; `notes`: where it may be another by now.

    `names`: columns as the job spells them. `lost`: why it can't be had as the run read it, so that it is what is there
    now.
    """

    job: Job
    pinned: PinnedInput
    names: tuple[str, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lost: ConfigError | None = None

    @property
    def label(self) -> str:
        """What is read, for people."""
        return self.pinned.name + ("" if self.pinned.version is None else f" v{self.pinned.version}")

    def units(self, limit: int | None = None) -> Sequence[Unit]:
        """The input in pieces, read one after the other; about `limit` rows of it, where its system can tell."""
        module = sources.of(self.job.source.type)
        read = module.read(self.pinned, self.columns, limit)
        return module.units(read, self.columns, self.job.model.batch_rows, 1)

    def batches(self, unit: Unit) -> Iterator[pa.RecordBatch]:
        """The rows of a piece. Raises ConfigError where its file is gone."""
        try:
            yield from unit.batches()
        except Unavailable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise ConfigError(
                f"{self.label}: {getattr(unit, 'path', '')} is gone, so that its scores "
                "can't be made again (VACUUM takes replaced files after a week, or delta.deletedFileRetentionDuration)"
            ) from error


def pin_input(job: Job, basis: Basis, columns: Sequence[str] = ()) -> Input:
    """The job's input as the run had it; `columns` are to be read. Raises ConfigError where it can't be had again."""
    source, names = sources.of(job.source.type), _names(job, columns)
    try:
        then = job.model_copy(update={"source": source.at_version(job.source, basis.input_version)})
        pinned = source.pin(then.source, names)
    except ConfigError as error:
        raise ConfigError(f"the input of run {basis.run_id} can't be read again: {error}") from error
    notes = []
    if basis.input_version is not None and pinned.version != basis.input_version:
        notes.append(
            f"{pinned.name} has no versions, and a file of it was written since the run (v{pinned.version} now, "
            f"v{basis.input_version} then): these are the rows that are there now"
        )
    return Input(then, pinned, names, tuple(columns), tuple(notes))


def _names(job: Job, columns: Sequence[str]) -> tuple[str, ...]:
    return (*job.keys, *job.keep, *job.features.rename.values(), *columns)


def pin_or_now(job: Job, basis: Basis, columns: Sequence[str]) -> Input:
    """As `pin_input`; where the input can't be had as it was, what is there now, which may be the same."""
    try:
        return pin_input(job, basis, columns)
    except ConfigError as error:
        names = _names(job, columns)
        try:
            now = sources.of(job.source.type).pin(job.source, names)
        except ConfigError:
            raise error from None
        return Input(job, now, names, tuple(columns), lost=error)
