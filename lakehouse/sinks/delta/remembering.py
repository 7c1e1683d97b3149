"""What a Delta table's log remembers of the runs that published to it: by commits, longer by transaction ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.connectors import delta
from lakehouse.schemas import INPUT_VERSION, JOB, MODEL_NAME, MODEL_VERSION, RUN_ID, SCORED_AT
from lakehouse.sinks import RememberedRun
from lakehouse.sinks.delta.history import constant
from lakehouse.sinks.target import rows_id
from lakehouse.storage import locate

if TYPE_CHECKING:
    from lakehouse.config import Sink

SAID = {
    "model": "model_name", "model_version": "model_version", "model_digest": "model_digest",
    "model_signature": "model_signature", "input": "input_table", "input_version": "input_version",
    "fingerprint": "fingerprint", "as_of": "as_of", "generation": "generation", "rows": "rows_scored",
    "receipt": "receipt",
}  # fmt: skip
"""What a commit says of its run, and what the ledger's records call it."""
_LINEAGE = {MODEL_NAME: "model_name", MODEL_VERSION: "model_version", INPUT_VERSION: "input_version"}


def remembered(section: Sink, job: str) -> list[RememberedRun]:
    """The job's runs by the table's log, the newest first; of those whose commit it has dropped, what is left.

    That is generation, rows and fingerprint, by transaction ids, and what the live rows' lineage says.
    """
    snapshot = delta.open_table(locate(section.table))
    if snapshot is None:
        return []
    found: dict[str, RememberedRun] = {}
    for commit in delta.commits_of(snapshot, "lakehouse_run"):
        if commit.said.get("job") == job and "generation" in commit.said:  # the first of several is the ledger's
            found[str(commit.said["lakehouse_run"])] = _from_commit(commit)
    ids = snapshot.transaction_ids
    left = {run: identity for run, identity in _identities(ids, job).items() if run not in found}
    return [*found.values(), *_from_ids(snapshot, ids, left)]


def _identities(ids: Iterable[str], job: str) -> dict[str, str]:
    """By run the identity under which it published."""
    parts = (name.rpartition("/run/") for name in ids)
    return {run: identity for identity, mark, run in parts if mark and identity.startswith(f"{job}/")}


def _from_commit(commit: delta.Commit) -> RememberedRun:
    said, run = commit.said, str(commit.said["lakehouse_run"])
    columns = {name: said[key] for key, name in SAID.items() if key in said}
    back = said.get("rolled_back_to")
    if back is None and (begun := _begun(commit.adds)) is not None:
        columns["started_at"] = begun
    identity = _identities(commit.transactions, str(said["job"])).get(run)
    return RememberedRun(run, identity, commit.version, commit.at, columns, back)


def _begun(adds: Sequence[Mapping[str, Any]]) -> datetime | None:
    """When a run began, by the statistics of its files; None where these don't tell of one moment."""
    told = [json.loads(add.get("stats") or "{}").get("minValues", {}).get(SCORED_AT) for add in adds]
    texts = {str(text) for text in told}
    return datetime.fromisoformat(texts.pop()) if len(texts) == 1 and None not in told else None


def _from_ids(snapshot: delta.Snapshot, ids: Mapping[str, int], runs: Mapping[str, str]) -> Iterator[RememberedRun]:
    lineage = _lineage(snapshot) if runs else {}
    for run, identity in runs.items():
        generation = ids[f"{identity}/run/{run}"]
        columns: dict[str, Any] = {"generation": generation, **lineage.get(run, {})}
        if (rows := ids.get(rows_id(identity, generation))) is not None:
            columns["rows_scored"] = rows
        prints = [
            n.removeprefix(f"{identity}/") for n, of in ids.items() if of == generation and n.startswith(f"{identity}/")
        ]
        if len(plain := [one for one in prints if "/" not in one]) == 1:
            columns["fingerprint"] = plain[0]
        at = columns.pop("at", None)
        yield RememberedRun(run, identity, None, at, columns)


def _lineage(snapshot: delta.Snapshot) -> dict[str, dict[str, Any]]:
    """By run what its live rows say of it, as far as the files' statistics tell."""
    if not {*_LINEAGE, RUN_ID, JOB, SCORED_AT} <= set(snapshot.schema.names):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for file in snapshot.files([*_LINEAGE, RUN_ID, SCORED_AT]):
        run, at = constant(file, RUN_ID), file.bounds.get(SCORED_AT, (None,))[0]
        if run is not None and at is not None:
            told = {name: value for column, name in _LINEAGE.items() if (value := constant(file, column)) is not None}
            found[run] = {**told, "at": at if at.tzinfo else at.replace(tzinfo=UTC)}
    return found
