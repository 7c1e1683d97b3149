"""The transaction ids of a table, all at once: the library tells the version of one id, and reads the log for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.connectors.delta.log import LOG, actions, last_checkpoint
from lakehouse.errors import Unavailable
from lakehouse.storage import Location, content, display_name, entries_of, reaching

_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.\d{10}\.(\d{10})|\.([0-9a-f-]{36}))?\.(?:parquet|json)")
_AT_ONCE = 16


def transactions(table: Location, version: int) -> dict[str, int]:
    """The version last committed under each transaction id, up to a version of the table.

    Asks an object storage for the end of the log alone. Raises Unavailable where the log is cut off meanwhile.
    """
    log = table.join(LOG)
    checkpoint, files = _checkpoint(log, version)
    found: dict[str, int] = {}
    for name in files:
        found |= _of_checkpoint(table, log, name)
    commits = [f"{number:020d}.json" for number in range(checkpoint + 1, version + 1)]
    with ThreadPoolExecutor(_AT_ONCE if table.remote else 1) as pool:
        held = list(pool.map(lambda name: content(log.join(name), no_folder=True), commits))
    for name, commit in zip(commits, held, strict=True):
        if commit is None:
            raise _gone(table, name)
        found |= _ids(commit)
    return found


def _ids(text: bytes) -> dict[str, int]:
    return {action["appId"]: action["version"] for action in actions(text, "txn")}


def _gone(table: Location, name: str) -> Unavailable:
    return Unavailable(f"{display_name(table)}: its log has no {name} any more: run again")


def _checkpoint(log: Location, version: int) -> tuple[int, Sequence[str]]:
    """The newest checkpoint up to a version and the files that have its ids; -1 where there is none."""
    begin = last_checkpoint(log) if log.remote else 0
    found = _newest(entries_of(log, f"{begin:020d}"), version) if 0 < begin <= version else (-1, ())
    return found if found[0] >= 0 else _newest(entries_of(log), version)


def _newest(listed: Iterable[str], version: int) -> tuple[int, Sequence[str]]:
    """The newest whole checkpoint among the files of a log."""
    found: dict[tuple[int, int, str], list[str]] = {}
    for name in sorted(listed):
        if (match := _CHECKPOINT.fullmatch(name)) and int(match[1]) <= version:
            found.setdefault((int(match[1]), int(match[2] or 1), match[3] or ""), []).append(name)
    whole = {key: files for key, files in found.items() if len(files) == key[1]}
    newest = max(whole, default=None)
    return (-1, ()) if newest is None else (newest[0], whole[newest])


def _of_checkpoint(table: Location, log: Location, name: str) -> dict[str, int]:
    """The ids in one file of a checkpoint; what lies in other files of it are the table's own."""
    if name.endswith(".json"):
        text = content(log.join(name), no_folder=True)
        if text is None:
            raise _gone(table, name)
        return _ids(text)
    with reaching(table):
        try:
            ids = pq.read_table(f"{log.path}/{name}", filesystem=log.filesystem(), columns=["txn"], partitioning=None)
        except FileNotFoundError as error:
            raise _gone(table, name) from error
    if not ids.num_columns:
        return {}
    held: pa.ChunkedArray = ids.column("txn").drop_null()
    parts = [pc.struct_field(held, part).to_pylist() for part in ("appId", "version")]
    return dict(zip(*parts, strict=True))
