"""Keys that occur more than once in a run: found exactly, whatever their type, and said, refused or ignored."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import pipeline
from lakehouse.checks import hashes, sidecars, uniqueness
from lakehouse.checks.hashes import hash_rows, normalise
from lakehouse.checks.uniqueness import Keys, RepeatedKeys, find_repeated
from lakehouse.config import settings as settings_of
from lakehouse.engines import local
from lakehouse.errors import Blocked
from lakehouse.operations.replay import replay
from lakehouse.operations.sweep import sweep
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.schemas import SCORED
from lakehouse.scoring.staging import Files
from lakehouse.storage import locate
from tests.conftest import read, score, version, write

NAN, MOMENT = float("nan"), datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


@dataclass(frozen=True)
class Asked:
    """What `find_repeated` reads of a run's staging."""

    scored_root: object
    scoring: object
    unique_keys: bool = True


@dataclass(frozen=True)
class Names:
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Staged:
    """What `find_repeated` reads of a run's tally."""

    keys: list
    scored_files: list


@pytest.fixture
def keys_of(tmp_path):
    """keys_of(one worker's batches, another's, …) → the keys of all that occur more than once."""

    def find(*workers: list[pa.RecordBatch], shown: int = 3, ask=None) -> RepeatedKeys:
        root, told, files = locate(str(tmp_path / "scores")), [], []
        for task, batches in enumerate(workers):
            names = tuple(batches[0].schema.names)
            keys = Keys(names, root, "run-x", task)
            staged = Files(SCORED, task, root, batches[0].schema, "run-x")
            for batch in batches:
                keys.add(batch)
                staged.write(batch)
            staged.close()
            files += staged.done
            told.append(keys.close())
        return find_repeated(Asked(root, Names(names)), Staged([t for t in told if t], files), shown, ask)  # type: ignore[arg-type]

    return find


def batch(*columns, names="kl") -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([c if isinstance(c, pa.Array) else pa.array(c) for c in columns],
                                      names=list(names[: len(columns)]))  # fmt: skip


def left(tmp_path) -> list[Path]:
    """The sidecars that are still there."""
    return list(tmp_path.rglob("*.hashes"))


def test_a_key_in_two_workers_rows_is_found_and_its_rows_are_counted(keys_of, tmp_path):
    found = keys_of([batch([3, 1]), batch([7, 2])], [batch([9, 7, 7])])
    assert found == RepeatedKeys(1, False, (({"k": 7}, 3),))
    assert str(found) == "1 key occurs more than once in this run, such as k=7 ×3"
    assert left(tmp_path) == []


VALUES = {
    "int8": (pa.int8(), [-1, 0, 1]), "int64": (pa.int64(), [-(2**63), 0, 2**63 - 1]),
    "boolean": (pa.bool_(), [True, False]), "date": (pa.date32(), [0, 1]),
    "instant": (pa.timestamp("us", "UTC"), [MOMENT, datetime(1, 1, 1, tzinfo=UTC)]),
    "float32": (pa.float32(), [0.5, NAN, 0.0, float("inf")]), "float64": (pa.float64(), [0.1, NAN, 0.0, -1.0]),
    "decimal": (pa.decimal128(38, 2), [Decimal("-1.00"), Decimal("1.00"), Decimal(10) ** 35]),
    "text": (pa.string(), ["", "a", "b" * 8, "c" * 9, "d" * 300, "e" * 300]),
    "long texts": (pa.string(), ["a" * 7, "a" * 8, "a" * 9, "a" * 16, "a" * 17]),
    "binary": (pa.binary(), [b"", b"\0", b"\0\0"]), "struct": (pa.struct([("x", pa.int64())]), [{"x": 1}, {"x": None}]),
    "list": (pa.list_(pa.float64()), [[], [1.0], [1.0, 2.0]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_keys_of_every_type_are_told_apart_and_found_again(keys_of, kind):
    type_, values = VALUES[kind]
    once = pa.array(values, type_)
    assert keys_of([batch(once)]).keys == 0
    found = keys_of([batch(once)], [batch(once.slice(1))], shown=99)
    assert found.keys == len(values) - 1
    assert {count for _, count in found.examples} == {2}


def test_zeros_are_one_key_whatever_their_sign_and_so_are_nans(keys_of):
    nans = np.array([0x7FF8000000000000, 0xFFF8000000000001], np.uint64).view(np.float64)
    found = keys_of([batch(np.array([0.0, nans[0]]))], [batch(np.array([-0.0, nans[1], 1.0]))])
    assert (found.keys, [count for _, count in found.examples]) == (2, [2, 2])


def test_of_several_keys_only_the_same_together_are_one(keys_of):
    assert keys_of([batch([1, 1, 2], ["a", "b", "a"])]).keys == 0
    assert keys_of([batch([1, 1, 2, 1], ["a", "b", "a", "b"])]).examples == (({"k": 1, "l": "b"}, 2),)


def test_keys_whose_hashes_collide_are_no_duplicates(keys_of, monkeypatch):
    monkeypatch.setattr(uniqueness, "hash_rows", lambda columns: hash_rows(columns) % np.uint64(3))
    assert keys_of([batch(range(100))], [batch(range(200, 98, -1))]).keys == 1
    assert keys_of([batch(range(100))], [batch(range(200, 99, -1))]).keys == 0


def test_rising_keys_in_ranges_of_their_own_are_unique_without_a_look(keys_of, monkeypatch, tmp_path):
    monkeypatch.setattr(uniqueness, "_suspects", None)
    workers = [[], []]
    for start in range(0, 3000, 2):  # units as two workers take them in turns
        workers[start // 2 % 4 == 0].append(batch([start, start + 1]))
    assert keys_of(*workers).keys == 0
    assert left(tmp_path) == []


@pytest.mark.parametrize("rows", [[[1, 3], [2, 4], [3, 5]], [[1, 3], [3, 5]], [[1, 2, 2]], [[5, 6], [1, 5]]])
def test_ranges_that_touch_are_looked_into(keys_of, rows):
    assert keys_of([batch(part) for part in rows]).keys == 1
    assert keys_of(*([batch(part)] for part in rows)).keys == 1


def test_the_driver_holds_a_part_of_the_hashes_and_stops_at_so_many_keys(keys_of, monkeypatch, tmp_path):
    monkeypatch.setattr(uniqueness, "SIDECAR_ROWS", 1000)
    monkeypatch.setattr(uniqueness, "AT_ONCE", 700)
    ids = np.random.default_rng(1).permutation(10_000)
    assert keys_of([batch(ids)], [batch(ids[:17] + 100_000)], [batch(ids[:2500])]).keys == 2500
    monkeypatch.setattr(uniqueness, "CHECKED", 100)
    found = keys_of([batch(ids)], [batch(ids)])
    assert (found.keys, found.more) == (100, True)
    assert str(found).startswith("at least 100 keys occur more than once")
    assert left(tmp_path) == []


def test_executors_find_what_the_driver_would_and_it_reads_no_hash(keys_of, monkeypatch, tmp_path):
    """`asked` does as the engine: what goes there is pickled, what comes back is JSON."""
    monkeypatch.setattr(uniqueness, "SIDECAR_ROWS", 1000)
    monkeypatch.setattr(uniqueness, "AT_ONCE", 700)
    ids = np.random.default_rng(1).permutation(10_000)
    workers = [batch(ids)], [batch(ids[:17] + 100_000)], [batch(ids[:2500])]
    read_, asked, read_one = [], [], sidecars._read
    monkeypatch.setattr(sidecars, "_read", lambda *own: read_.append(own[-1]) or read_one(*own))

    def ask(work, items):
        asked.append((work.__name__, len(items)))
        monkeypatch.setattr(sidecars, "_read", read_one)
        return [json.loads(json.dumps(work(pickle.loads(pickle.dumps(item))))) for item in items]

    found = keys_of(*workers, ask=ask)
    assert found == keys_of(*workers)
    assert (found.keys, found.more) == (2500, False)
    assert asked == [("suspects_in", 19), ("count_suspects", 3)]
    assert set(read_) == {8 * sidecars.PARTS}  # the heads alone
    monkeypatch.setattr(uniqueness, "CHECKED", 100)
    found = keys_of([batch(ids)], [batch(ids)], ask=ask)
    assert (found.keys, found.more) == (100, True)
    assert left(tmp_path) == []


@pytest.mark.long
def test_a_run_on_spark_has_executors_look_for_repeated_keys(twice, spark, monkeypatch):
    monkeypatch.setattr(uniqueness, "AT_ONCE", 0)
    monkeypatch.setattr(uniqueness, "_in_parts", lambda *_: pytest.fail("the driver reads hashes"))
    with pytest.raises(Blocked, match="2 keys occur more than once in this run, such as"):
        score(twice(keys_unique="refuse"), "spark")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=30)), st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(0, 3))
def test_equal_keys_have_equal_hashes_wherever_they_stand(texts, numbers, skipped):
    """A slice of an array, as an Arrow batch may be, hashes as a copy of it does."""
    for values in (pa.array(texts, pa.string()), pa.array(numbers, pa.int64())):
        part = values.slice(min(skipped, len(values)))
        alone = [hash_rows([normalise(pa.array([v], values.type))])[0] for v in part.to_pylist()]
        assert hash_rows([normalise(part)]).tolist() == alone
        assert len(set(alone)) == len(set(part.to_pylist()))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False)), st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_ordered_numbers_rise_as_the_values_do(floats, numbers):
    for values, kind in ((floats, pa.float64()), (numbers, pa.int32()), (numbers, pa.timestamp("us"))):
        inorder = sorted(values)
        found = hashes.order_as_int64(pa.array(inorder, kind)).tolist()
        assert [a == b for a, b in pairwise(found)] == [a == b for a, b in pairwise(inorder)]
        assert found == sorted(found)


# --- whole runs -------------------------------------------------------------------------------------------


@pytest.fixture
def twice(make_job, imputing, monkeypatch):
    """A job over a table in which id=2 stands twice and id=3 three times, beside a row without a key."""
    monkeypatch.setattr(local, "cores", lambda: 1)
    rows = pa.table({"id": [1, 2, 2, 3, 3, 3, None], "a": [0.1] * 7})
    write("lake/features", rows)
    checks = {"quarantine": {"max_fraction": 0.5}}
    return lambda **sections: make_job(imputing, predictions={"p": 0}, checks=checks, **sections)


SAID = "2 keys occur more than once in this run, such as id=2 ×2; id=3 ×3"


@pytest.mark.quick("local")
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_a_repeated_key_is_warned_of_and_published(twice, engine, request, workspace):
    if engine == "spark":
        request.getfixturevalue("spark")
    told = []
    result = score(twice(), engine, say=lambda event, values: told.append((event, values.get("message"))))
    assert [m for event, m in told if event == "warning"] == [
        f"keys: {SAID} (keys_unique: refuse blocks such a run, ignore looks for none)"
    ]
    assert (result.status, result.rows_scored, result.checks["warned"]) == ("published", 6, 1)
    assert read("lake/scores").num_rows == 6
    assert left(workspace) == []


def test_refused_nothing_is_published_and_the_keys_are_named(twice, workspace):
    with pytest.raises(Blocked, match=f"keys_unique: {SAID}\n") as raised:
        score(twice(keys_unique="refuse"))
    assert (raised.value.exit_code, raised.value.result.status, version("lake/scores")) == (3, "blocked", -1)
    assert [r["message"] for r in ledger.runs(naming.state_of(twice()), "scores")] == [f"keys_unique: {SAID}"]
    assert left(workspace) == []


def test_ignored_nothing_is_looked_for(twice, workspace, monkeypatch):
    monkeypatch.setattr(uniqueness, "Keys", None)
    result = score(twice(keys_unique="ignore"))
    assert (result.status, result.checks["warned"]) == ("published", 0)


def test_merge_refuses_whatever_is_asked(twice):
    with pytest.raises(Blocked, match=f"merge: {SAID}"):
        score(twice(keys_unique="ignore", sinks=[{"type": "delta", "table": "lake/scores", "write": "merge"}]))


def test_what_a_run_before_asked_of_keys_is_no_change_unless_it_is_no_default(twice):
    assert "keys_unique" not in settings_of(twice(keys_unique="warn"))
    score(twice())
    assert score(twice(keys_unique="warn")).status == "unchanged"
    assert score(twice(keys_unique="ignore")).status == "published"


def test_a_replay_is_judged_by_its_own_rows(twice, make_job, imputing):
    """The keys that the run's own scores have twice are no business of the rows that are scored again."""
    rows = pa.table({"id": [1, 1, 1, 2], "a": [0.1, 0.2, None, None]})
    write("lake/features", rows, mode="overwrite")
    strict = twice(features={"nulls": "quarantine"})
    first = score(strict)
    assert (first.rows_scored, first.rows_quarantined) == (2, 2)
    told = []
    record = ledger.record_of(naming.state_of(strict), "scores")
    request = pipeline.Request("local", ledger.now(), pipeline.new_run_id(), say=lambda e, v: told.append((e, v)))
    assert replay(twice(keys_unique="refuse"), record, request).status == "published"
    assert [v for e, v in told if e == "warning"] == []


@pytest.mark.parametrize("published", [False, True])
def test_what_a_worker_wrote_of_its_keys_goes_with_a_dead_runs_files(twice, monkeypatch, workspace, published):
    def die(*_, **__):
        raise KeyboardInterrupt

    if published:
        score(twice())
    staged = set(workspace.glob("lake/scores*/run-*/*"))
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.checks, "tally", die)
        with pytest.raises(KeyboardInterrupt):
            score(twice(), rescore=published)
    assert len(left(workspace)) == 1
    sweep(twice(), take_away=True)
    assert (left(workspace), set(workspace.glob("lake/scores*/run-*/*"))) == ([], staged)


def test_a_worker_that_scored_no_row_says_nothing_of_keys(tmp_path):
    assert Keys(("k",), locate(str(tmp_path)), "run-x", 0).close() is None
