"""What a run signs of its rows: a statement with the Merkle root of all that it scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse import formats, sinks
from lakehouse.checks import Tally, Verdict, sidecars
from lakehouse.planning.carriers import Carrier
from lakehouse.planning.plan import Plan
from lakehouse.planning.prepare import Prepared
from lakehouse.runs import signing
from lakehouse.schemas import INPUT_VERSION
from lakehouse.scoring import receipts
from lakehouse.scoring.values import encode_value

if TYPE_CHECKING:
    from lakehouse.config import Job

_SIGNED = b"lakehouse receipt\n"
"""What is signed begins so, so that it is taken for nothing else."""


def require_key(job: Job) -> None:
    """Raise ConfigError where the job's runs are to be signed and its key can't.

    It is not kept: processes that are forked for workers would have it.
    """
    if job.receipts is not None:
        signing.signer_in(job.receipts.sign)


def seal(plan: Plan, tables: Prepared, tally: Tally, verdict: Verdict, carry: Carrier) -> dict[str, Any] | None:
    """The statement of the run, signed; None where it leaves no receipts, or is blocked. Takes the sidecars away."""
    root, paths, asked = tables.staging.scored_root, tally.leaves, plan.job.receipts
    try:
        if asked is None or verdict.problems:
            return None
        there = carry.executors
        tree = receipts.tree_of(
            root, paths, ask=None if there is None else lambda work, items: there().ask(work, items)
        )
    finally:
        sidecars.remove_all(root, paths)
    statement = formats.with_version(formats.RECEIPT, _statement(plan, tables, tally.scored, tree.root))
    signer = signing.signer_in(asked.sign)
    signature = signer.sign(message_of(statement))
    return {"statement": statement, "signature": signature.hex(), "public_key": signer.public.hex()}


def _statement(plan: Plan, tables: Prepared, rows: int, root: bytes) -> dict[str, Any]:
    scoring = tables.staging.scoring
    return {
        "job": plan.job.job,
        "run_id": plan.run_id,
        "slice": dict(plan.sink.slice),
        "generation": plan.sink.generation,
        "tables": [sinks.of(s.target.type).display_name(s.target.uri) for s in plan.sinks],
        "scored_at": plan.started_at.isoformat(),
        "input": plan.pinned.name,
        "input_version": tables.staging.lineage[INPUT_VERSION],
        "fingerprint": plan.sink.fingerprint,
        "rows": rows,
        "keys": list(scoring.keys),
        "predictions": [output.name for output in scoring.outputs],
        "feature_names": digest_of_names([str(feature.name) for feature in scoring.features]),
        "root": root.hex(),
    }


def message_of(statement: Mapping[str, Any]) -> bytes:
    """The bytes of a statement that are signed."""
    return _SIGNED + json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def digest_of_names(names: Sequence[str]) -> str:
    """SHA-256 of the names of features, in their order."""
    return hashlib.sha256(encode_value(list(names))).hexdigest()
