"""The transaction ids of a table, all at once: the library tells the version of one id, and reads the log for each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.connectors.delta.log import LOG, actions
from lakehouse.errors import Unavailable
from lakehouse.storage import Location, content, display_name, names, reaching

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
        with reaching(table):
            found |= _of_checkpoint(log, name)
    commits = [f"{number:020d}.json" for number in range(checkpoint + 1, version + 1)]
    with ThreadPoolExecutor(_AT_ONCE if table.remote else 1) as pool:
        held = list(pool.map(lambda name: content(log.join(name), no_folder=True), commits))
    for name, commit in zip(commits, held, strict=True):
        if commit is None:
            raise Unavailable(f"{display_name(table)}: its log has no {name} any more: run again")
        found |= {action["appId"]: action["version"] for action in actions(commit, "txn")}
    return found


def _checkpoint(log: Location, version: int) -> tuple[int, Sequence[str]]:
    """The newest checkpoint up to a version and the files that have its ids; -1 where there is none."""
    said = json.loads((log.remote and content(log.join("_last_checkpoint"), no_folder=True)) or b"{}")
    last = said.get("version", version + 1)
    if last > version:  # it isn't said, or an older version is asked for
        return _newest(names(log.join("x")), version)
    if "v2Checkpoint" in said:
        return last, [said["v2Checkpoint"]["path"].rpartition("/")[2]]
    parts = said.get("parts")
    if parts is None:
        return last, [f"{last:020d}.checkpoint.parquet"]
    return last, [f"{last:020d}.checkpoint.{part:010d}.{parts:010d}.parquet" for part in range(1, parts + 1)]


def _newest(listed: Iterable[str], version: int) -> tuple[int, Sequence[str]]:
    """The newest whole checkpoint among the files of a log."""
    found: dict[tuple[int, int, str], list[str]] = {}
    for name in sorted(listed):
        if (match := _CHECKPOINT.fullmatch(name)) and int(match[1]) <= version:
            found.setdefault((int(match[1]), int(match[2] or 1), match[3] or ""), []).append(name)
    whole = {key: files for key, files in found.items() if len(files) == key[1]}
    newest = max(whole, default=None)
    return (-1, ()) if newest is None else (newest[0], whole[newest])


def _of_checkpoint(log: Location, name: str) -> dict[str, int]:
    """The ids in one file of a checkpoint; what lies in other files of it are the table's own."""
    if name.endswith(".json"):
        return {action["appId"]: action["version"] for action in actions(content(log.join(name)) or b"", "txn")}
    ids = pq.read_table(f"{log.path}/{name}", filesystem=log.filesystem(), columns=["txn"], partitioning=None)
    if not ids.num_columns:
        return {}
    held: pa.ChunkedArray = ids.column("txn").drop_null()
    parts = [pc.struct_field(held, part).to_pylist() for part in ("appId", "version")]
    return dict(zip(*parts, strict=True))
