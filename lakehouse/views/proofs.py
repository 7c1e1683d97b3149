"""A proof of a score as text: what it proves, or what in it doesn't fit."""

from __future__ import annotations

import json
from typing import Any

from lakehouse.operations.receipts.proofs import Checked, Proof
from lakehouse.runs import signing


def checked(found: Checked) -> str:
    """What a proof proves, in plain words, or why it proves nothing."""
    if found.wrong:
        return "\n".join(["REFUSED  this proves nothing:", *(f"         {what}" for what in found.wrong)])
    signed = f"the key {found.signer}"
    if found.known:
        by = [f"         signed by {signed}, which is the one that you gave"]
    else:
        by = [
            f"         signed by {signed}, which the file itself names: that proves nothing of who signed it;",
            "         with --public-key FILE it is held against a key that you trust",
        ]
    return "\n".join(["PROVED   this is one of the scores that the run has signed", *by, *_lines(found.proof)])


def made(proof: Proof, file: str) -> str:
    """That a proof was made."""
    signer = signing.fingerprint(proof.public_key)
    return "\n".join([f"PROVED   in {file}, signed by the key {signer}", *_lines(proof)])


def _lines(proof: Proof) -> list[str]:
    said, model = proof.statement, proof.model
    features = [f"feature  {name} {_value(value)}" for name, value in (proof.features or {}).items()]
    return [
        *(f"key      {name} {_value(value)}" for name, value in proof.keys.items()),
        *(f"score    {name} {_value(value)}" for name, value in proof.predictions.items()),
        *(features or [f"features sha256:{proof.feature_digest.hex()} (their values are not in the file)"]),
        f"model    {model['name']} v{model['version']} sha256:{model['digest']}",
        f"run      {said['run_id']} of {said['job']} at {said['scored_at']}, one of {said['rows']:,} rows",
        f"table    {', '.join(said['tables'])}{_slice(said)}, generation {said['generation']}",
        f"input    {said['input']}" + ("" if said["input_version"] is None else f" v{said['input_version']}"),
        f"root     {said['root']}",
    ]


def _slice(said: Any) -> str:
    return "".join(f", {name}={value}" for name, value in said["slice"].items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
