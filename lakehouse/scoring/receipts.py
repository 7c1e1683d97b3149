"""What makes a run's scores provable: of each row a leaf of the run's Merkle tree, made in the pass itself.

A row's leaf holds the model (name, version, digest), the digest of the features as the model got them, the keys and the
predictions, in the encoding of `encoding`. Workers add the features' digest to the scored row and write the leaves, in
order, to sidecars; of these the tree is made, a part after the other, by executors where there are many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks import sidecars
from lakehouse.schemas import FEATURE_DIGEST, MODEL_NAME, MODEL_VERSION
from lakehouse.scoring import encoding, merkle
from lakehouse.scoring.inputs import features_in
from lakehouse.scoring.merkle import Tree
from lakehouse.scoring.reasons import Numbers
from lakehouse.scoring.score import Scoring
from lakehouse.scoring.values import encode_values
from lakehouse.storage import Location

HELD = 1 << 20
"""A worker holds so many leaves (32 MB), then sorts and writes them."""
_BLOCK = 1 << 12
"""Rows that are encoded at once: what that needs fits into a processor's cache."""
AT_ONCE = 1 << 21
"""The tree of so many leaves (64 MB) is made at once."""


@dataclass(frozen=True)
class Model:
    """One of the models of a run, as leaves name it."""

    name: str
    version: str
    digest: str

    @property
    def head(self) -> bytes:
        """How the leaf of a row begins that it scored."""
        return b"\x00" + encode_values((self.name, self.version, self.digest))


def feature_digests(features: pa.RecordBatch) -> pa.Array:
    """SHA-256 of each row of the features as the model gets them."""
    parts = (features.slice(start, _BLOCK) for start in range(0, features.num_rows, _BLOCK))
    hashed = b"".join(merkle.digests(encoding.encode_rows(part.columns, part.num_rows)) for part in parts)
    return pa.Array.from_buffers(pa.binary(merkle.SIZE), features.num_rows, [None, pa.py_buffer(hashed)])


def leaves_of(digests: pa.Array, columns: Sequence[pa.Array], models: Sequence[Model], of: pa.Array | None) -> bytes:
    """The leaves of rows, one after the other: the digests of their features, their keys and predictions.

    `of`: the numbers of their models, null for none of these; None where there is one.
    """
    rows = encoding.encode_rows([digests, *columns], len(digests))
    heads = pa.array([model.head for model in models], pa.large_binary())
    before = heads[0] if of is None else pc.fill_null(heads.take(of), b"")
    return merkle.digests(pc.binary_join_element_wise(before, rows, pa.scalar(b"", pa.large_binary())))


def numbers_of(names: pa.Array, versions: pa.Array, models: Sequence[Model]) -> pa.Array:
    """By row the number of its model, null for none of these."""
    known = pa.array([f"{model.name}\n{model.version}" for model in models], pa.string())
    texts = pc.binary_join_element_wise(names.cast(pa.string()), versions.cast(pa.string()), "\n")
    return pc.index_in(texts, value_set=known, skip_nulls=True)


@dataclass
class Leaves:
    """Leaves on their way to sidecars, as few as may be."""

    root: Location
    folder: str
    name: str = "leaves"
    held: list[bytes] = field(default_factory=list)
    rows: int = 0
    paths: list[str] = field(default_factory=list)

    def take(self, leaves: bytes) -> None:
        """Take the leaves of some rows in."""
        self.held.append(leaves)
        self.rows += len(leaves) // merkle.SIZE
        if self.rows >= HELD:
            self._write()

    def _write(self) -> None:
        content = merkle.in_order(merkle.as_leaves(b"".join(self.held))).tobytes()
        self.held, self.rows = [], 0
        first = np.frombuffer(content, np.uint8)[:: merkle.SIZE]
        self.paths.append(sidecars.write(self.root, self.folder, self.name, content, first))

    def close(self) -> list[str]:
        """Write what is held; the sidecars."""
        if self.rows:
            self._write()
        return self.paths


class Receipts:
    """Makes the leaves of one worker's rows, and counts the seconds that it takes."""

    def __init__(self, models: Sequence[Model], scoring: Scoring, schema: pa.Schema, leaves: Leaves) -> None:
        """`schema`: of the staged files, in whose types keys and predictions are taken."""
        self.models, self.scoring, self.schema, self.leaves, self.seconds = models, scoring, schema, leaves, 0.0

    def add_to(self, scored: pa.RecordBatch, batch: pa.RecordBatch, rows: Numbers | None) -> pa.RecordBatch:
        """The scored rows with the digest of their features; keeps their leaves.

        `batch`: the input that they come from; `rows`: which of its rows they are, None for all.
        """
        began = time.perf_counter()
        given = batch.select(list(dict.fromkeys(feature.column for feature in self.scoring.features)))
        given = given if rows is None else given.take(pa.array(rows))
        digests = feature_digests(features_in(given, self.scoring.features))
        names = [*self.scoring.keys, *(output.name for output in self.scoring.outputs)]
        columns = [scored.column(name).cast(self.schema.field(name).type) for name in names]
        of = None
        if self.scoring.route is not None:
            of = numbers_of(scored.column(MODEL_NAME), scored.column(MODEL_VERSION), self.models)
        self.leaves.take(leaves_of(digests, columns, self.models, of))
        self.seconds += time.perf_counter() - began
        return scored.append_column(FEATURE_DIGEST, digests.cast(pa.binary()))

    def close(self) -> list[str]:
        """Write what is held; the sidecars."""
        began = time.perf_counter()
        paths = self.leaves.close()
        self.seconds += time.perf_counter() - began
        return paths


Ask = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Has executors do work, a task an item; what came of each, as JSON can hold it."""


def tree_of(root: Location, paths: Sequence[str], wanted: bytes | None = None, ask: Ask | None = None) -> Tree:
    """The tree of all leaves in these sidecars. `ask`: where there are executors, for more than AT_ONCE leaves."""
    if not paths:
        return merkle.tree(merkle.as_leaves(b""))
    ends = sidecars.ends_of(root, paths)
    shares = list(_shares(ends.sum(axis=0), 0, sidecars.PARTS, 0))
    items = [(root, paths, *share, wanted) for share in shares]
    said = [tree_in(item) for item in items] if ask is None or len(items) == 1 else ask(tree_in, items)
    trees = {share: Tree.from_json(one) for share, one in zip(shares, said, strict=True)}

    def join(first: int, last: int, depth: int) -> Tree:
        if (share := (first, last, depth)) in trees:
            return trees[share]
        middle = (first + last) // 2
        return merkle.joined(join(first, middle, depth + 1), join(middle, last, depth + 1), wanted)

    return join(0, sidecars.PARTS, 0)


def _shares(ends: Any, first: int, last: int, depth: int) -> Sequence[tuple[int, int, int]]:
    """Parts whose trees are made at once, each with how many bits its leaves have in common."""
    if ends[last] - ends[first] <= AT_ONCE or last - first == 1:
        return [(first, last, depth)]
    middle = (first + last) // 2
    return [*_shares(ends, first, middle, depth + 1), *_shares(ends, middle, last, depth + 1)]


def tree_in(asked: tuple[Location, Sequence[str], int, int, int, bytes | None]) -> list[Any]:
    """The tree of the leaves in some parts, as JSON; this may be an executor."""
    root, paths, first, last, depth, wanted = asked
    ends = sidecars.ends_of(root, paths)
    some = sidecars.read(root, paths, ends[:, first], ends[:, last], f"S{merkle.SIZE}")
    return merkle.tree(merkle.in_order(np.concatenate(some)), wanted, depth).as_json()
