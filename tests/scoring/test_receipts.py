"""The Merkle tree of scored rows: how values, leaves and nodes are made, and that nothing but the rows decides its root."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.scoring import encoding, merkle, receipts
from lakehouse.scoring.receipts import Leaves, Model
from lakehouse.scoring.values import as_json, encode_value
from lakehouse.storage import locate

MODEL = Model("churn", "3", "ab" * 32)


def batch():
    """Three rows: keys, predictions, features."""
    return pa.record_batch(
        {
            "id": pa.array([1, 2, 3]),
            "day": pa.array([dt.date(2026, 1, 2), dt.date(1960, 1, 1), None]),
            "p": pa.array([0.25, -0.0, float("nan")], pa.float32()),
            "label": pa.array(["yes", "né", None]),
            "a": pa.array([1.5, None, 3.0]),
            "n": pa.array([7, -1, None], pa.int16()),
        }
    )


def leaves(rows=None):
    rows = batch() if rows is None else rows
    digests = receipts.feature_digests(rows.select(["a", "n"]))
    return receipts.leaves_of(digests, [rows.column(n) for n in ("id", "day", "p", "label")], [MODEL], None)


def test_the_root_of_three_rows_never_changes():
    found = merkle.tree(merkle.in_order(merkle.as_leaves(leaves())))
    assert found.root.hex() == "7c14a8283a14a57586b6fb8955f90400945d2aeaddc7486b73b09f6077cf36dd"


def test_the_first_leaf_is_what_the_documentation_says():
    def fixed(tag, word):
        return bytes([tag]) + word.to_bytes(8, "little")

    def text(said):
        return fixed(7, len(said)) + said.encode()

    features = fixed(3, 0x3FF8 << 48) + fixed(2, 7)
    row = text("churn") + text("3") + text("ab" * 32)
    row += fixed(8, 32) + hashlib.sha256(features).digest()
    row += fixed(2, 1) + fixed(4, 20455) + fixed(3, 0x3FD0 << 48) + text("yes")
    assert leaves()[:32] == hashlib.sha256(b"\x00" + row).digest()


COLUMNS = {
    "boolean": pa.array([True, None, False]),
    "int8": pa.array([-1, None, 5], pa.int8()),
    "int64": pa.array([-(2**63), 2**63 - 1, None]),
    "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "float32": pa.array([1.1, None, float("nan")], pa.float32()),
    "float64": pa.array([-0.0, float("inf"), 1e300]),
    "date": pa.array([dt.date(1960, 1, 1), None, dt.date(2026, 1, 2)]),
    "timestamp": pa.array([dt.datetime(1960, 1, 1, 1), None, dt.datetime(2026, 1, 2, 3, 4, 5, 6)], pa.timestamp("us")),
    "instant": pa.array([dt.datetime(1960, 1, 1, 1), None, dt.datetime(2026, 1, 2)], pa.timestamp("us", "UTC")),
    "text": pa.array(["", "é", None]),
    "binary": pa.array([b"", b"\xff\x00", None]),
    "decimal": pa.array([Decimal("12.50"), None, Decimal("-0.05")], pa.decimal128(10, 2)),
    "list": pa.array([[1, None], [], None], pa.list_(pa.int32())),
    "lists": pa.array([[["a"], None], [], None], pa.list_(pa.list_(pa.string()))),
    "fixed": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
    "struct": pa.array(
        [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}], pa.struct({"a": pa.int32(), "b": pa.string()})
    ),
    "map": pa.array([[("k", 1), ("l", None)], None, []], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["x", "y", "x"]).dictionary_encode(),
    "null": pa.nulls(3),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("start", [0, 1])
def test_a_value_has_the_same_bytes_from_arrow_and_from_json(kind, start):
    column = COLUMNS[kind][start:]
    said = [json.loads(json.dumps(as_json(value))) for value in column]
    assert encoding.encode_rows([column], len(column)).to_pylist() == list(map(encode_value, said))


def test_rows_are_their_values_one_after_the_other():
    columns = list(COLUMNS.values())
    rows = encoding.encode_rows(columns, 3).to_pylist()
    assert rows == [b"".join(encode_value(as_json(c[row])) for c in columns) for row in range(3)]


@pytest.mark.parametrize("value", [
    2**63, {"float": "1.0"}, {"float": "nan"}, {"date": "20260102"}, {"timestamp": "2026-01-02"},
    {"instant": "2026-01-02T00:00:00.000000"}, {"binary": "FF"}, {"binary": "00 ff"}, {"map": ["ab"]}, {"map": {}}, {"struct": ""}, {"other": 1}, {}, {"date": 1, "float": 2},
])  # fmt: skip
def test_a_value_is_written_in_one_way_only(value):
    with pytest.raises((ValueError, TypeError)):
        encode_value(value)


def by_the_book(leaves, depth=0):
    """The tree as the documentation has it, for leaves as numbers."""

    def sha(*parts):
        return hashlib.sha256(b"\x01" + b"".join(parts)).digest()

    if len(leaves) <= 16:
        return sha(*(n.to_bytes(32, "big") for n in sorted(leaves)))
    sides = [{n for n in leaves if n >> (255 - depth) & 1 == bit} for bit in (0, 1)]
    return sha(*(by_the_book(side, depth + 1) for side in sides)) if all(sides) else by_the_book(leaves, depth + 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 300), st.integers(0, 2**32), st.sampled_from([0, 3, 250]))
def test_a_tree_is_that_of_the_documentation_and_each_path_leads_to_its_root(count, seed, alike):
    chosen = random.Random(seed)
    numbers = {chosen.getrandbits(256 - alike) for _ in range(count)}  # with so many bits in common
    content = [n.to_bytes(32, "big") for n in numbers]
    found = merkle.tree(merkle.in_order(merkle.as_leaves(b"".join(content))))
    assert found.root == by_the_book(numbers)
    for leaf in content[:5]:
        tree = merkle.tree(merkle.in_order(merkle.as_leaves(b"".join(content))), leaf)
        assert merkle.root_of(leaf, tree.path) == found.root


@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("at_once", [40, 1 << 21])
def test_the_root_depends_on_nothing_but_the_rows(workers, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(receipts, "AT_ONCE", at_once)
    monkeypatch.setattr(receipts, "HELD", 100)
    every = [hashlib.sha256(str(n).encode()).digest() for n in range(1_000)]
    shuffled = random.Random(workers).sample([*every, *every[:10]], 1_010)  # rows that are alike are one leaf
    root, paths = locate(str(tmp_path)), []
    for worker in range(workers):
        held = Leaves(root, "run", f"leaves-{worker}")
        for leaf in shuffled[worker::workers]:
            held.take(leaf)
        paths += held.close()
    asked = []

    def ask(work, items):
        asked.append(len(items))
        return json.loads(json.dumps([work(item) for item in items]))

    tree = receipts.tree_of(root, paths, every[5], ask)
    assert tree.root == merkle.tree(merkle.in_order(merkle.as_leaves(b"".join(every)))).root
    assert merkle.root_of(every[5], tree.path) == tree.root
    assert (tree.count, bool(asked)) == (1_000, at_once == 40)


def test_few_rows_that_lie_apart_are_one_node_whatever_is_done_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(receipts, "AT_ONCE", 1)
    leaves = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(12))
    held = Leaves(locate(str(tmp_path)), "run")
    held.take(leaves)
    tree = receipts.tree_of(held.root, held.close(), leaves[:32])
    assert tree.root == merkle.node(sorted(leaves[at : at + 32] for at in range(0, len(leaves), 32)))
    assert merkle.root_of(leaves[:32], tree.path) == tree.root


@pytest.mark.parametrize(
    ("column", "value"), [("id", 9), ("day", None), ("p", 0.26), ("label", "no"), ("a", 1.6), ("n", 8)]
)
def test_each_part_of_a_row_is_in_its_leaf(column, value):
    rows = batch().to_pylist()
    rows[0][column] = value
    assert leaves(pa.RecordBatch.from_pylist(rows, batch().schema))[:32] != leaves()[:32]
    assert leaves(pa.RecordBatch.from_pylist(rows, batch().schema))[32:] == leaves()[32:]


def test_no_rows_have_a_root_of_their_own(tmp_path):
    assert leaves(batch().slice(0, 0)) == b""
    held = Leaves(locate(str(tmp_path)), "run")
    held.take(b"")
    assert receipts.tree_of(held.root, held.close()).root == hashlib.sha256(b"\x01").digest()


def test_a_row_of_an_unknown_model_has_no_leaf_of_a_known_one():
    names, versions = pa.array(["churn", "churn", None]), pa.array(["3", "4", "3"])
    assert receipts.numbers_of(names, versions, [MODEL]).to_pylist() == [0, None, None]
    digests = receipts.feature_digests(batch().select(["a"]))
    several = receipts.leaves_of(digests, [], [MODEL], pa.array([0, None, None], pa.int32()))
    one = receipts.leaves_of(digests, [], [MODEL], None)
    assert (several[:32] == one[:32], np.intersect1d(*map(merkle.as_leaves, (several, one))).size) == (True, 1)
