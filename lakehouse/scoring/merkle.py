"""The Merkle tree of a run's rows: one root over all of them, whatever their order, and a short path to it from each.

This is version 1. A leaf is SHA-256(0x00 ‖ row), a node SHA-256(0x01 ‖ its children). The tree is that of the leaves in
the order of their bytes; rows that are alike in everything are one leaf. Up to 16 leaves are the children of one node.
More are parted by their first bit into two trees, these by the second bit, and so on: a node has one child on either
side; where all leaves are on one side, their tree is taken for it as it is. So a root depends on nothing but which rows
there are, and any part of the leaves with a common beginning can be worked on by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

SIZE = 32
"""Bytes of a hash."""
GROUP = 16
"""So many leaves are the children of one node."""

Leaves = Any
"""Hashes as an array of numpy's, of dtype S32, whose order is that of the bytes."""


@dataclass(frozen=True)
class Step:
    """From a node to the one above it: the children of that before and after it."""

    before: tuple[bytes, ...] = ()
    after: tuple[bytes, ...] = ()

    def as_json(self) -> dict[str, list[str]]:
        return {"before": [one.hex() for one in self.before], "after": [one.hex() for one in self.after]}

    @staticmethod
    def from_json(said: Mapping[str, Sequence[str]]) -> Step:
        return Step(*(tuple(map(bytes.fromhex, said[side])) for side in ("before", "after")))


@dataclass(frozen=True)
class Tree:
    """The tree of so many leaves: its root, and the path to it of the leaf that was asked for, where it has it.

    `few`: the leaves themselves where they are one node's.
    """

    count: int
    root: bytes
    few: tuple[bytes, ...] = ()
    path: tuple[Step, ...] | None = None

    def as_json(self) -> list[Any]:
        path = None if self.path is None else [step.as_json() for step in self.path]
        return [self.count, self.root.hex(), [one.hex() for one in self.few], path]

    @staticmethod
    def from_json(said: Sequence[Any]) -> Tree:
        count, root, few, path = said
        steps = None if path is None else tuple(map(Step.from_json, path))
        return Tree(count, bytes.fromhex(root), tuple(map(bytes.fromhex, few)), steps)


def leaf(row: bytes) -> bytes:
    """The leaf of an encoded row."""
    return hashlib.sha256(b"\x00" + row).digest()


def node(children: Sequence[bytes]) -> bytes:
    """The node above these."""
    return hashlib.sha256(b"\x01" + b"".join(children)).digest()


def digests(rows: pa.LargeBinaryArray) -> bytes:
    """SHA-256 of each of these, one after the other."""
    _, ends, content = rows.buffers()
    offsets = np.frombuffer(ends, np.int64)[rows.offset :][: len(rows) + 1].tolist()
    view, sha256 = memoryview(content) if content is not None else memoryview(b""), hashlib.sha256
    return b"".join([sha256(view[start:end]).digest() for start, end in pairwise(offsets)])


def as_leaves(hashes: bytes) -> Leaves:
    """Hashes, one after the other, as an array of them."""
    return np.frombuffer(hashes, f"S{SIZE}")


def in_order(leaves: Leaves) -> Leaves:
    """The leaves in their order, each once."""
    inorder = np.sort(leaves)
    again = np.concatenate([[False], inorder[1:] == inorder[:-1]])
    return inorder[~again] if again.any() else inorder


def tree(leaves: Leaves, wanted: bytes | None = None, depth: int = 0) -> Tree:
    """The tree of leaves in their order, each once, which have the first `depth` bits in common."""
    content, count = leaves.tobytes(), len(leaves)
    bits = np.frombuffer(content, np.uint8).reshape(count, SIZE)
    view, sha256 = memoryview(content), hashlib.sha256

    def root(first: int, last: int, depth: int) -> bytes:
        if last - first <= GROUP:
            return sha256(b"\x01" + view[SIZE * first : SIZE * last]).digest()
        middle = part(first, last, depth)
        if middle in (first, last):
            return root(first, last, depth + 1)
        return node([root(first, middle, depth + 1), root(middle, last, depth + 1)])

    def part(first: int, last: int, depth: int) -> int:
        ones = bits[first:last, depth >> 3] >> np.uint8(7 - (depth & 7)) & np.uint8(1)
        return last - int(np.count_nonzero(ones))

    def path(first: int, last: int, depth: int, at: int) -> tuple[Step, ...]:
        if last - first <= GROUP:
            some = [content[SIZE * i : SIZE * (i + 1)] for i in range(first, last)]
            return (Step(tuple(some[: at - first]), tuple(some[at - first + 1 :])),)
        middle = part(first, last, depth)
        if middle in (first, last):
            return path(first, last, depth + 1, at)
        if at < middle:
            return (*path(first, middle, depth + 1, at), Step(after=(root(middle, last, depth + 1),)))
        return (*path(middle, last, depth + 1, at), Step(before=(root(first, middle, depth + 1),)))

    found = None if wanted is None else _place(bits, wanted)
    few = tuple(content[SIZE * i : SIZE * (i + 1)] for i in range(count)) if count <= GROUP else ()
    return Tree(count, root(0, count, depth), few, None if found is None else path(0, count, depth, found))


def _place(bits: Any, wanted: bytes) -> int | None:
    at = np.flatnonzero((bits == np.frombuffer(wanted, np.uint8)).all(axis=1))
    return int(at[0]) if len(at) else None


def joined(left: Tree, right: Tree, wanted: bytes | None = None) -> Tree:
    """The tree of two halves, whose leaves differ in the first bit that not all of a half have in common."""
    if not left.count or not right.count:
        return left if left.count else right
    count = left.count + right.count
    if count <= GROUP:
        return tree(as_leaves(b"".join((*left.few, *right.few))), wanted)
    root = node([left.root, right.root])
    if left.path is not None:
        return Tree(count, root, (), (*left.path, Step(after=(right.root,))))
    return Tree(count, root, (), None if right.path is None else (*right.path, Step(before=(left.root,))))


def root_of(hashed: bytes, path: Sequence[Step]) -> bytes:
    """The root that a leaf's path leads to."""
    for step in path:
        hashed = node([*step.before, hashed, *step.after])
    return hashed
