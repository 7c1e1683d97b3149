"""Events of a run to streams, such as topics: after its commits and before its intent goes, so at least once.

An event that is sent again, by whoever finishes the run, has the same id: of the run itself `<run>/run`, of a row
`<run>/row/<file>/<row>`, by its place in the staged files that the intent lists. A run's rows come before the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.connectors import json_text
from lakehouse.connectors.canonical import join
from lakehouse.connectors.messages import LOT_BYTES, Event
from lakehouse.errors import ConfigError, Unavailable, as_ours
from lakehouse.runs import ledger
from lakehouse.runs.ledger import Intent
from lakehouse.sinks.target import SINK, Target
from lakehouse.storage import sizes
from lakehouse.storage.parquet import open_parquet

if TYPE_CHECKING:
    from lakehouse.config import Job

FORMAT = 1
_AT_ONCE = 10_000
"""Rows that become events at once, at most."""


@dataclass(frozen=True)
class Announced:
    """What became of a run's events: streams that have them all, of the others why not, and what else is to be said."""

    told: tuple[Mapping[str, Any], ...] = ()
    untold: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Cut:
    """Rows that are announced by their keys alone: how many, and the id of the first one's event."""

    count: int = 0
    first: str = ""


def streams_of(job: Job) -> tuple[Mapping[str, Any], ...]:
    """What an intent says of the streams that its run is announced to; secrets stay references."""
    return tuple(
        {**stream.model_dump(mode="json"), "name": stream.name, "keys": list(job.keys)} for stream in job.publish_events
    )


def still_to_tell(intent: Intent, job: Job) -> tuple[Mapping[str, Any], ...]:
    """The streams that the job names now, since those of then may be gone, without those that have the events."""
    return tuple(stream for stream in streams_of(job) if stream not in intent.told) if intent.streams else ()


def pending(intent: Intent) -> str:
    """What of a run, whose commits are made and recorded, its intent still stands for; empty where no event does."""
    if not intent.streams:
        return ""
    why = f": {'; '.join(intent.untold)}" if intent.untold else ", or it isn't known whether all are sent"
    return f"events of run {intent.run_id} are pending{why}; the next run of this job sends them"


def require(job: Job, warn: Callable[[str], object]) -> None:
    """Look at the streams before a run does its work; `warn` is told of one that gives no answer, which it may later.

    Raises ConfigError where a client isn't installed, a stream isn't there, or it refuses the login.
    """
    for stream in streams_of(job):
        try:
            _client(stream).require(stream)
        except Unavailable as error:
            warn(f"publish_events: {error}; a run whose events can't be sent stands, and the next one sends them")


def _client(stream: Mapping[str, Any]) -> Any:
    """The module of the stream's system: `require` takes a short look at a stream, `send` writes events to it.

    What these raise as Unavailable or ConfigError is the stream's fault, all else that of these events alone.
    `LARGEST`: bytes that an event's value may have.
    """
    return import_module(f"lakehouse.connectors.{stream['type']}.sending")


def announce(intent: Intent, record: Mapping[str, Any], silent: dict[str, str]) -> Announced:
    """Send the events of a run whose commits are made, to each stream whatever becomes of the others.

    `silent`: streams that took no events, and why; they are not tried again, and what is found out here is added.
    """
    told, untold, notes = list[Mapping[str, Any]](), list[str](), list[str]()
    for stream in intent.streams:
        name = f"{stream['type']} {stream['name']}"
        if (why := silent.get(_key(stream))) is not None:
            untold.append(f"{name} took none of an earlier run's and is not tried again: {why}")
            continue
        try:
            notes += _tell(stream, intent, record)
        except Exception as error:
            why = str(error) if as_ours(error) else f"{type(error).__name__}: {error}"
            untold.append(f"{name}: {why}")
            if isinstance(error, (Unavailable, ConfigError)):  # not where it is these events that are not to be had
                silent[_key(stream)] = why
        else:
            told.append(stream)
    return Announced(tuple(told), tuple(untold), tuple(dict.fromkeys(notes)))


def all_silent(streams: Sequence[Mapping[str, Any]], silent: Mapping[str, str]) -> bool:
    """Whether there are streams, and all are among those that took no events."""
    return bool(streams) and all(_key(stream) in silent for stream in streams)


def waiting(runs: int, streams: Sequence[Mapping[str, Any]], silent: Mapping[str, str]) -> str:
    """What a run says of the events of earlier ones that it could not send."""
    why = [f"{s['type']} {s['name']}: {silent[_key(s)]}" for s in streams if _key(s) in silent]
    return f"events of {runs:,} earlier runs wait: {'; '.join(why)}; the next run of this job sends them"


def _key(stream: Mapping[str, Any]) -> str:
    """A stream as the key of a mapping: streams of several systems or servers may have the same name."""
    return json.dumps(stream, sort_keys=True)


def _tell(stream: Mapping[str, Any], intent: Intent, record: Mapping[str, Any]) -> list[str]:
    """Send all events of a run to a stream; what could not be told of it for good."""
    client, notes = _client(stream), list[str]()
    scored = next((target for target in intent.targets if target.kind == SINK), None)
    if stream["rows"] and scored is not None:
        if _are_gone(scored):
            notes.append("its rows could not be announced: their files are there no more")
        else:
            cut = _Cut()
            client.send(stream, _of_rows(intent.run_id, scored, stream["keys"], client.LARGEST, cut))
            if cut.count:
                notes.append(
                    f"events of rows that would be larger than {stream['type']} takes ({client.LARGEST:,} bytes) and "
                    f"have the rows' keys alone: {cut.count:,}, such as {cut.first}"
                )
    client.send(stream, [_of_run(intent, record)])
    return notes


def _are_gone(target: Target) -> bool:
    return None in sizes(target.root, [file.path for file in target.files]).values()


def _of_run(intent: Intent, record: Mapping[str, Any]) -> Event:
    said = {
        "format": FORMAT,
        "event": "run",
        "id": f"{intent.run_id}/run",
        **{name: record[name] for name in ("job", "run_id", "date", "status", "started_at")},
        "rows": {kind: record[f"rows_{kind}"] for kind in ("read", "scored", "quarantined")},
        "model": ledger.model_of(record),
        "input": {name: record.get(f"input_{name}") for name in ("table", "version", "range")},
        "tables": record["sinks"],
    }
    return Event(said["id"], record["job"].encode(), json_text.encode(said).encode())


def _of_rows(run: str, target: Target, keys: Sequence[str], most: int, cut: _Cut) -> Iterator[Event]:
    """The events of all rows; `cut` counts those that are larger than `most` bytes, and tell of keys alone."""
    for number, file in enumerate(target.files):
        at = 0
        with open_parquet(target.root, file.path) as parquet:
            for batch in parquet.iter_batches(_rows_at_once(parquet.metadata)):
                places = pa.array(range(at, at + len(batch))).cast(pa.large_string())
                events = _of_batch(batch, join(f"{run}/row/{number}/", places), target, keys)
                if max((len(event.value) for event in events), default=0) > most:
                    events = [e if len(e.value) <= most else _of_keys(e, target.job, keys, cut) for e in events]
                yield from events
                at += len(batch)


def _rows_at_once(metadata: Any) -> int:
    """So many that they fit into memory as texts, too, however wide they are."""
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    return max(min(_AT_ONCE, LOT_BYTES * int(metadata.num_rows) // max(int(size), 1)), 1)


def _of_batch(batch: pa.RecordBatch, ids: pa.Array, target: Target, keys: Sequence[str]) -> list[Event]:
    """The rows' events: texts are made of columns, not of rows."""
    same = {name: pa.repeat(pa.scalar(value, pa.string()), len(batch)) for name, value in target.slice.items()}
    whole = {**dict(zip(batch.schema.names, batch.columns, strict=True)), **same}
    told = f'", "job": {json_text.encode(target.job)}, "row": '
    rows = join(f'{{"format": {FORMAT}, "event": "row", "id": "', ids, told, json_text.objects(whole), "}")
    key = json_text.lists([whole[name] for name in keys])
    return list(map(Event, ids.to_pylist(), _as_bytes(key), _as_bytes(rows)))


def _of_keys(event: Event, job: str, keys: Sequence[str], cut: _Cut) -> Event:
    """The event with the row's keys in place of the row."""
    cut.count, cut.first = cut.count + 1, cut.first or event.id
    row = dict(zip(keys, json.loads(event.key), strict=True))
    said = {"format": FORMAT, "event": "row", "id": event.id, "job": job, "row": row, "too_large": len(event.value)}
    return event._replace(value=json_text.encode(said).encode())


def _as_bytes(texts: pa.Array) -> list[bytes]:
    return list(texts.cast(pa.large_binary()).to_numpy(zero_copy_only=False))
