"""Published scores by their keys: of the newest published date, or one that is named, as the table has them now.

What is kept belongs to one version of the table. Statistics of its files say which of them can hold a key; a file is
read once somebody asks for a row of it, and its rows are found by the hashes of their keys.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import sinks
from lakehouse.errors import ConfigError
from lakehouse.operations import dated
from lakehouse.operations.receipts import rows
from lakehouse.operations.receipts.choosing import mixed
from lakehouse.schemas import RUN_ID, SCORED_AT
from lakehouse.serving.messages import SHOWN, Refusal
from lakehouse.serving.prepared import JobFile
from lakehouse.sinks import LiveFile

if TYPE_CHECKING:
    from lakehouse.config import Job

KEPT_BYTES = 256 << 20
_DATES = 64
"""Dates at most whose files are remembered."""


@dataclass(frozen=True)
class Found:
    """A published row, and what it is read from. `published_at`: when its own run was, None where no record says it."""

    row: pa.RecordBatch
    table: str
    version: int
    slice: Mapping[str, Any]
    published_at: datetime | None
    looked_at: datetime


@dataclass(frozen=True)
class _Content:
    """A file's rows, sorted by the hashes of their keys."""

    table: pa.Table
    hashes: Any
    size: int


@dataclass(frozen=True)
class _Version:
    """A slice in one version of its table."""

    job: Job
    record: Mapping[str, Any]
    number: int
    schema: pa.Schema
    files: Sequence[LiveFile]


class Published:
    """The published scores of a job. `refresh` looks whether the table has another version; `find` never does."""

    def __init__(self, file: JobFile, kept_bytes: int = KEPT_BYTES) -> None:
        self._file, self._most = file, kept_bytes
        self._reading, self._refreshing = threading.Lock(), threading.Lock()
        self._kept: OrderedDict[str, _Content] = OrderedDict()
        self._large = set[str]()
        self._versions: dict[str | None, _Version] = {}
        self._records: list[dict[str, Any]] = []
        self.looked_at: float | None = None
        self.trouble = ""

    def refresh(self) -> bool:
        """Look at the table; whether there is another version than before. Raises Unavailable, ConfigError."""
        with self._refreshing:
            records = self._file.records()
            versions: dict[str | None, _Version] = {}
            if records:
                record = records[0]
                job = self._file(record["date"])
                before = self._versions.get(None)
                same = before is not None and before.record["run_id"] == record["run_id"]
                now = _version_of(job, record, before if same else None)
                versions = {None: now, record["date"]: now}
            changed = versions.get(None) is not self._versions.get(None)
            if changed or not records:
                self._versions = versions
            self._records, self.looked_at = records, time.time()
            return changed

    def find(self, text: str, date: str | None = None) -> Found:
        """The row with this key. Raises Refusal: 400 for what is no key, 404, and 503 where nobody has looked yet."""
        if self.looked_at is None:
            said = (
                "can't be looked up: the server's log says why" if self.trouble else "are not looked at yet: try again"
            )
            raise Refusal(503, f"published scores {said}", Retry_After="5")
        version = self._of(date)
        try:
            key = rows.key_of(version.job, text, version.schema)
        except ConfigError as error:
            raise Refusal(400, str(error).removeprefix("--key: ")[: SHOWN * 4]) from error
        asked = pa.RecordBatch.from_pylist([dict(key)], pa.schema([version.schema.field(n) for n in version.job.keys]))
        wanted = mixed(asked, version.job.keys, 0)[0]
        sure = {name: value for name, value in key.items() if type(value) in (int, str)}
        parts = [
            part for file in version.files if file.may_hold(sure) for part in self._in_file(version, file, wanted, key)
        ]
        if not parts:
            raise Refusal(404, f"{rows.in_words(key)} has no score in {_name(version)} (version {version.number})")
        newest = max(parts, key=lambda row: row.column(SCORED_AT)[0].as_py() if SCORED_AT in row.schema.names else 0)
        looked = datetime.fromtimestamp(self.looked_at, UTC)
        return Found(newest, _name(version), version.number, version.job.slice, self._published_at(newest), looked)

    def _published_at(self, row: pa.RecordBatch) -> datetime | None:
        """When the row's own run was published, which need not be the newest: a table that grows has rows of many."""
        run = row.column(RUN_ID)[0].as_py() if RUN_ID in row.schema.names else None
        return next((record["finished_at"] for record in self._records if record["run_id"] == run), None)

    @property
    def looked(self) -> bool:
        """Whether the first look has ended, be it with what is in the way."""
        return self.looked_at is not None or bool(self.trouble)

    def state(self) -> dict[str, Any]:
        """What is known of the table: its version, since when, and what is in the way of looking."""
        newest = self._versions.get(None)
        looked = None if self.looked_at is None else datetime.fromtimestamp(self.looked_at, UTC).isoformat()
        known = {} if newest is None else {"table_version": newest.number, "date": newest.record["date"]}
        return {**known, "looked_at": looked, **({"trouble": self.trouble} if self.trouble else {})}

    def _of(self, date: str | None) -> _Version:
        versions = self._versions
        if not versions:
            raise Refusal(404, "no run of this job has published yet")
        if (known := versions.get(date)) is not None:
            return known
        newest, record = versions[None], self._record_of(str(date), versions[None])
        job = self._file(date)
        one = _version_of(job, record, None)
        if one.number == newest.number or job.sinks[0].table != newest.job.sinks[0].table:
            others = [day for day, of in list(versions.items()) if of is not newest]
            for old in others[: max(0, len(versions) + 1 - _DATES)]:
                versions.pop(old, None)
            versions[date] = one
        return one

    def _record_of(self, date: str, newest: _Version) -> Mapping[str, Any]:
        """The newest record of a date. Raises Refusal: 400 for what is no date, 404."""
        try:
            dated.parse(date[:SHOWN], "date")
        except ConfigError as error:
            raise Refusal(400, str(error)) from error
        record = next((row for row in self._records if row["date"] == date), None)
        if record is None:
            last = newest.record["date"]
            known = f"the newest is {last}" if last else "its runs have no dates: leave `date` out"
            raise Refusal(404, f"no run of this job has published for the date {date}; {known}")
        return record

    def _in_file(self, version: _Version, file: LiveFile, wanted: Any, key: Mapping[str, Any]) -> list[pa.RecordBatch]:
        content = self._content(version, file)
        if content is None:
            parts = [batch.filter(pa.array(mixed(batch, version.job.keys, 0) == wanted)) for batch in file.batches()]
        else:
            first, last = (int(np.searchsorted(content.hashes, wanted, side)) for side in ("left", "right"))
            parts = content.table.slice(first, last - first).to_batches()
        return [batch.slice(n, 1) for batch in parts for n in range(batch.num_rows) if _is(batch, n, key)]

    def _content(self, version: _Version, file: LiveFile) -> _Content | None:
        """A file's rows, read by one who asks while others wait; None for one that is too large to be kept."""
        if (content := self._kept.get(file.name)) is not None or file.name in self._large:
            return content
        with self._reading:
            if (content := self._kept.get(file.name)) is not None or file.name in self._large:
                return content
            content = _read(version, file, self._most)
            if content is None:
                self._large.add(file.name)
                return None
            kept = OrderedDict({**self._kept, file.name: content})
            while len(kept) > 1 and sum(one.size for one in kept.values()) > self._most:
                kept.popitem(last=False)
            self._kept = kept  # in one step: others look into it meanwhile
            return content


def _is(batch: pa.RecordBatch, row: int, key: Mapping[str, Any]) -> bool:
    return all(batch.column(name)[row].as_py() == value for name, value in key.items())


def _name(version: _Version) -> str:
    return rows.name_of(rows.scored_sink(version.job))


def _version_of(job: Job, record: Mapping[str, Any], before: _Version | None) -> _Version:
    """The slice as it is now; `before` itself where the table has no other version."""
    sink = rows.scored_sink(job)
    module = sinks.of(sink.type)
    live = module.live_files(sink, before.number if before else None, job.slice, job.keys)
    if live is None:
        assert before is not None
        return before
    return _Version(job, record, live.version, live.schema, live.files)


def _read(version: _Version, file: LiveFile, most: int) -> _Content | None:
    batches, size = list[pa.RecordBatch](), 0
    for batch in file.batches():
        batches.append(batch)
        size += batch.nbytes
        if size > most:
            return None
    hashes = np.concatenate([np.empty(0, np.uint64), *(mixed(batch, version.job.keys, 0) for batch in batches)])
    order = np.argsort(hashes, kind="stable")
    table = pa.Table.from_batches(batches, batches[0].schema if batches else version.schema)
    table = table.take(pa.array(order)).combine_chunks()
    return _Content(table, hashes[order], table.nbytes + hashes.nbytes)
