"""Rows of a run in the scored table, held against the same rows made again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.operations.matching import match, once
from lakehouse.operations.receipts import rows
from lakehouse.operations.receipts.choosing import Chosen, Hashes, chosen_rows, hashes_of
from lakehouse.operations.receipts.comparing import sides_of
from lakehouse.schemas import RUN_ID
from lakehouse.scoring.equality import differing, greatest_difference, largest_of

if TYPE_CHECKING:
    from lakehouse.config import Job

_SHOWN = 10


@dataclass
class Verified:
    """What came of it. `version`: of the scored table, None: its newest rows were read. `checked`: rows made again.

    `equal`, `differing`: rows on both sides. `missing`: rows of the input that are neither in the table nor set aside,
    `extra`: rows of the table that the input doesn't have, `unfit`: that would be set aside now. `strangers`: rows of
    the slice by no run on record. `changed`: what of its rows is no longer as the run published it, in words. `rows`:
    what all of the input, the table and quarantine have, and `alike`: whether they have the same keys; None where it
    isn't known what the input was. `repeated`: not compared. `greatest`: of each column of floats the greatest
    difference between two values that are both numbers.
    """

    run_id: str
    table: str
    version: int | None
    sample: int | None
    seed: int
    rows: dict[str, int] = field(default_factory=dict)
    alike: bool | None = None
    checked: int = 0
    equal: int = 0
    differing: int = 0
    missing: int = 0
    extra: int = 0
    unfit: int = 0
    strangers: int = 0
    changed: list[str] = field(default_factory=list)
    repeated: int = 0
    greatest: dict[str, float] = field(default_factory=dict)
    exact: bool = False
    same_settings: bool | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def proved(self) -> bool:
        """Whether every row that was looked at is equal, no side lacks rows, and nobody else has changed any."""
        wrong = self.differing + self.missing + self.extra + self.unfit + self.strangers
        return not wrong and not self.changed and self.alike is not False

    def as_json(self) -> dict[str, Any]:
        """As an object."""
        return {"equal_all": self.proved, **asdict(self)}

    def note(self, said: str) -> None:
        """Say something once."""
        self.notes = list(dict.fromkeys([*self.notes, said]))

    def show(self, kind: str, keys: pa.Table, **columns: Any) -> None:
        """Keep some rows as examples of what is wrong."""
        room = _SHOWN - sum(one["kind"] == kind for one in self.examples)
        values = {name: column.slice(0, max(room, 0)).to_pylist() for name, column in columns.items()}
        for number, key in enumerate(keys.slice(0, max(room, 0)).to_pylist()):
            self.examples.append({"kind": kind, "key": key} | {n: v[number] for n, v in values.items()})


@dataclass(frozen=True)
class Stored:
    """The rows of the run in the scored table: how they are read, and what of them is compared."""

    job: Job
    owner: str
    version: int | None
    names: tuple[str, ...]

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for _, batch in rows.at_version(self.job, names, self.version, {RUN_ID: self.owner}, names):
            yield batch.select(list(names))


@dataclass
class Made:
    """Scores that were made again: chosen rows, and the keys of those that would be set aside.

    `read`, `total`: how many rows with keys the whole input has, and the sum of the hashes of these.
    """

    scored: pa.Table
    unfit: pa.Table
    read: int = 0
    total: int = 0


def compare(
    side: Stored, made: Made, chosen: Chosen, seed: int, aside: Hashes | None, found: Verified, exact: bool
) -> None:
    """Hold the chosen rows of the table against those made again. `aside`: hashes of those that the run set aside."""
    keys = list(side.job.keys)
    parts = [chosen_rows(batch, keys, seed, chosen) for batch in side.batches([*keys, *side.names])]
    stored = pa.Table.from_batches(parts) if parts else made.scored.slice(0, 0)
    (one, twice), (two, more) = once(stored, keys), once(made.scored, keys)
    here, again, extra, gone = match(one, two, keys)
    found.repeated += twice + more
    found.checked += here.num_rows
    _hold_against(here, again, keys, side, found, exact)
    unfit = _hashes_in(made.unfit, keys, seed)
    only = extra.select(keys)
    _tell(only, np.isin(_hashes_in(only, keys, seed), unfit), found)
    if aside is not None:
        lost = pa.concat_tables([gone.select(keys), made.unfit.select(keys)])
        known = np.concatenate([aside, _hashes_in(stored, keys, seed)])
        lost = lost.filter(pa.array(~np.isin(_hashes_in(lost, keys, seed), known), pa.bool_()))
        found.missing += lost.num_rows
        found.show("missing", lost)


def _tell(only: pa.Table, unfit: Any, found: Verified) -> None:
    """Count the rows that the table alone has: of which the input has none, and which would be set aside now."""
    for kind, rows_of_kind in (
        ("unfit", only.filter(pa.array(unfit, pa.bool_()))),
        ("extra", only.filter(pa.array(~unfit, pa.bool_()))),
    ):
        setattr(found, kind, getattr(found, kind) + rows_of_kind.num_rows)
        found.show(kind, rows_of_kind)


def _hold_against(
    here: pa.Table, again: pa.Table, keys: Sequence[str], side: Stored, found: Verified, exact: bool
) -> None:
    """Count the rows of which any column is another; `here`, `again`: the same rows in the same order."""
    wrong = np.zeros(here.num_rows, bool)
    for one in sides_of(side.job, here, again, side.names, exact):
        if one.refusal or one.again is None:
            found.note(one.refusal)
            continue
        other = differing(one.stored, one.again, exact=one.exact, largest=largest_of(one.stored))
        if pa.types.is_floating(one.stored.type):
            apart = greatest_difference(one.stored, one.again)
            found.greatest[one.name] = max(found.greatest.get(one.name, 0.0), apart)
        taken = pa.array(np.flatnonzero(other))
        shown = {"column": pa.array([one.name] * len(taken)), "stored": one.stored.take(taken)}
        found.show("differs", here.take(taken).select(keys), **shown, again=one.again.take(taken))
        wrong |= other
    found.differing += int(wrong.sum())
    found.equal += int((~wrong).sum())


def _hashes_in(table: pa.Table, keys: Sequence[str], seed: int) -> Hashes:
    return hashes_of(iter(table.select(list(keys)).to_batches()), keys, seed)
