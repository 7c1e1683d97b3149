"""A proof of one score: what is in its file, and whether all of that fits together. Needs neither lake nor network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse import formats
from lakehouse.errors import Blocked
from lakehouse.runs import signing
from lakehouse.runs.sealing import digest_of_names, message_of
from lakehouse.scoring import merkle
from lakehouse.scoring.merkle import Step
from lakehouse.scoring.values import encode_values

_STATED = {
    "format", "job", "run_id", "slice", "generation", "tables", "scored_at", "input", "input_version", "fingerprint",
    "rows", "keys", "predictions", "feature_names", "root",
}  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """One score, and what proves that it is among those that a run signed. Values are as `scoring.encoding` has them.

    `model`: name, version and digest. `features`: what the model was given, None where the file leaves them out.
    `path`: from the row's leaf to the root in the `statement`.
    """

    statement: Mapping[str, Any]
    model: Mapping[str, str]
    keys: Mapping[str, Any]
    predictions: Mapping[str, Any]
    feature_digest: bytes
    features: Mapping[str, Any] | None
    path: tuple[Step, ...]
    signature: bytes
    public_key: bytes

    def as_json(self) -> dict[str, Any]:
        """The proof as its file has it."""
        return {
            "statement": dict(
                sorted({**self.statement, "slice": dict(sorted(self.statement["slice"].items()))}.items())
            ),
            "model": {name: self.model[name] for name in ("name", "version", "digest")},
            "keys": self.keys,
            "predictions": self.predictions,
            "feature_digest": self.feature_digest.hex(),
            **({} if self.features is None else {"features": self.features}),
            "path": [step.as_json() for step in self.path],
            "signature": self.signature.hex(),
            "public_key": self.public_key.hex(),
        }

    @property
    def content(self) -> bytes:
        """Its file."""
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @property
    def root(self) -> bytes:
        """The root that the row leads to. Raises ValueError for what is no value."""
        model = [self.model[name] for name in ("name", "version", "digest")]
        values = [*model, {"binary": self.feature_digest.hex()}, *self.keys.values(), *self.predictions.values()]
        return merkle.root_of(merkle.leaf(encode_values(values)), self.path)


@dataclass(frozen=True)
class Checked:
    """What came of checking a proof. `wrong`: what doesn't fit, a line each; none where the proof holds.

    `signer`: the fingerprint of the key in the file; `known`: whether it is the one that the reader trusts, None where
    none was named.
    """

    proof: Proof
    signer: str
    known: bool | None
    wrong: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """As an object."""
        found = {"proved": not self.wrong, "wrong": list(self.wrong), "signer": self.signer, "known": self.known}
        return found | {name: value for name, value in self.proof.as_json().items() if name != "path"}


def check_file(content: bytes, name: str, public: bytes | None = None) -> Checked:
    """Whether the proof in a file holds. `public`: the key that its reader trusts.

    Raises Blocked where the file is no proof as it is written, ConfigError for one of a newer format.
    """
    try:
        return check(_read(content, name), public)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:  # of parts of other types
        raise Blocked(
            f"{name} is no proof as `lakehouse prove` writes it: something in it was changed or added, or it was cut "
            "off; get the file again"
        ) from error


def _read(content: bytes, name: str) -> Proof:
    said = json.loads(content)
    formats.require(formats.RECEIPT, said["statement"], name)
    hashes = {part: bytes.fromhex(said[part]) for part in ("feature_digest", "signature", "public_key")}
    proof = Proof(**{"features": None, **said, **hashes, "path": tuple(map(Step.from_json, said["path"]))})
    if proof.statement.keys() != _STATED or proof.content != content:
        raise ValueError("another layout")
    return proof


def check(proof: Proof, public: bytes | None = None) -> Checked:
    """Whether a proof holds. `public`: the key that its reader trusts."""
    statement, key = proof.statement, proof.public_key
    wrong = []
    if proof.features is not None:
        if digest_of_names(list(proof.features)) != statement["feature_names"]:
            wrong.append("features: their names are not those that the run's model has")
        if hashlib.sha256(encode_values(proof.features.values())).digest() != proof.feature_digest:
            wrong.append("features: these values don't have feature_digest")
    for part in ("keys", "predictions"):
        if list(getattr(proof, part)) != list(statement[part]):
            wrong.append(f"{part}: their names are not those of the statement")
    if proof.root.hex() != statement["root"]:
        wrong.append("row: model, keys, predictions, feature_digest and path don't lead to the root of the statement")
    if signing.is_weak(key):
        wrong.append("public_key: it is a point of small order, of which anybody can sign")
    elif not signing.is_signed(key, proof.signature, message_of(statement)):
        wrong.append("statement: signature is not that of public_key on it")
    known = None if public is None else public == key
    if known is False:
        wrong.append("public_key: it is another one than the key that you trust")
    return Checked(proof, signing.fingerprint(key), known, tuple(wrong))
