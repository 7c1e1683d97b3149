"""Profiles: counts that merge exactly whoever made them, and distances that are what their formulas say."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from lakehouse.checks import profile, sketch
from lakehouse.checks.profile import (
    Baseline,
    ColumnDrift,
    Profile,
    baseline_of,
    bins,
    drift,
    dump,
    merge,
    observe,
    start,
)
from lakehouse.errors import ConfigError

NAN, INF = math.nan, math.inf
MANY = 65_536
ANY_FLOATS = hnp.arrays(np.float64, st.integers(0, 300), elements=st.floats(allow_nan=True, allow_infinity=True))
FINITE = hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e300, 1e300))
few = settings(max_examples=60, deadline=None)


def dumped(*batches: Any, kind: pa.DataType | None = None, name: str = "c") -> dict[str, Any]:
    """One worker's dump of one column, after JSON."""
    arrays = [b if isinstance(b, pa.Array) else pa.array(b, kind) for b in batches]
    sketches = start(pa.schema([(name, arrays[0].type)]), [name])
    for array in arrays:
        observe(sketches, pa.record_batch([array], names=[name]))
    return json.loads(json.dumps(dump(sketches), allow_nan=False))


def seen(*batches: Any, kind: pa.DataType | None = None) -> Profile:
    return merge([dumped(*batches, kind=kind)])


def content(found: Profile) -> dict[str, Any]:
    return dump(found)


def one(found: Profile, baseline: Baseline) -> ColumnDrift:
    (column,) = drift(found, baseline)
    return column


def counts(found: Profile, baseline: Baseline | None = None) -> dict[str, int]:
    table = bins(found, baseline)
    return dict(zip(table["label"].to_pylist(), table["count"].to_pylist(), strict=True))


@few
@given(ANY_FLOATS, st.lists(st.integers(0, 300), max_size=4), st.randoms())
def test_however_batches_and_workers_part_the_rows_the_merged_counts_are_those_of_one_pass(values, cuts, random):
    parts = np.split(values, sorted(min(c, len(values)) for c in cuts))
    dumps = [dumped(part) for part in parts]
    random.shuffle(dumps)
    whole = content(seen(values))
    assert content(merge(dumps)) == whole
    assert content(merge([dump(merge(dumps[:2])), dump(merge(dumps[2:]))])) == whole
    assert content(seen(*parts)) == whole


def test_the_level_is_the_same_in_any_order_of_workers(monkeypatch):
    monkeypatch.setattr(sketch, "LIMIT", 50)
    random = np.random.default_rng(1)
    parts = [random.normal(size=300), random.normal(size=30) * 1e200, random.integers(0, 9, 300), np.zeros(5)]
    whole = content(seen(*(part.astype(float) for part in parts)))
    dumps = [dumped(part.astype(float)) for part in parts]
    assert whole["columns"]["c"]["level"] > max(d["columns"]["c"]["level"] for d in dumps[2:])
    assert all(content(merge(order)) == whole for order in permutations(dumps))
    assert len(merge(dumps).columns["c"].keys) <= 50


@few
@given(ANY_FLOATS)
def test_every_row_is_in_one_bin(values):
    found = seen(values, [None, None], kind=pa.float64())
    table = bins(found, None)
    assert sum(table["count"].to_pylist()) == len(values) + 2
    assert math.isclose(sum(table["fraction"].to_pylist()), 1)
    told = counts(found)
    assert told["null"] == 2
    assert told["nan"] == np.isnan(values).sum()
    assert (told["inf"], told["-inf"]) == ((values == INF).sum(), (values == -INF).sum())


@few
@given(FINITE, FINITE)
def test_counts_on_a_baselines_edges_are_numpys(first, second):
    baseline = baseline_of(seen(first))
    edges = np.array(baseline.columns["c"].edges)
    assert (np.diff(edges) > 0).all()
    for values, found in ((first, baseline), (second, baseline)):
        expected = np.histogram(values, np.concatenate([[-INF], edges, [INF]]))[0]
        table = bins(seen(values), found).filter(pa.compute.field("kind") == "range")
        assert table["count"].to_pylist() == expected.tolist()


@few
@given(FINITE)
def test_no_bin_of_a_baseline_is_empty_but_the_two_beyond_all_values(values):
    fractions = baseline_of(seen(values)).columns["c"].fractions[1:-3]
    assert fractions[0] == fractions[-1] == 0
    assert all(share > 0 for share in fractions[1:-1])
    assert len(fractions) <= 3 * profile.BINS


@few
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_bins_follow_the_order_of_numbers_and_hold_them(a, b):
    a, b = sorted((a, b))
    low, high = sketch.keys_of(np.array([a, b])).astype(np.int64)
    assert low <= high
    assert sketch.bounds(np.array([low]))[0] <= a < sketch.bounds(np.array([low + 1]))[0]


def test_minus_zero_is_zero_and_bounds_belong_to_the_bin_above():
    assert sketch.keys_of(np.array([0.0, -0.0])).tolist() == [0, 0]
    edges = np.array([-2.0, -1.0, 1.0, 1.5])
    assert (sketch.bounds(sketch.keys_of(edges).astype(np.int64)) == edges).all()
    below = sketch.keys_of(np.nextafter(edges, -INF))
    assert (below == sketch.keys_of(edges) - 1).all()


@pytest.mark.parametrize("values", [[5.3] * 40, [0.0] * 70 + [1.5, 2.5, 3.5] * 10, [0, 1] * 30, [-1e308, 1e308] * 9])
def test_ties_have_bins_of_their_own(values):
    found = baseline_of(seen(np.array(values, float))).columns["c"]
    for tie in {v for v in values if values.count(v) * profile.BINS >= len(values)}:
        place = np.searchsorted(found.edges, tie, side="right")
        assert found.edges[place - 1] <= tie
        assert math.isclose(found.fractions[1 + place], values.count(tie) / len(values))
    moved = one(seen(np.full(40, 4.0e307)), Baseline({"c": found}))
    assert moved.psi > 1


def test_a_constant_that_changes_is_seen():
    baseline = baseline_of(seen(np.full(1000, 5.3)))
    assert one(seen(np.full(1000, 5.3)), baseline).psi == 0
    moved = one(seen(np.full(1000, 5.4)), baseline)
    assert (moved.ks, moved.js, moved.unseen) == (1.0, 1.0, 1.0)
    assert math.isclose(moved.psi, 2 * (1 - 1e-4) * math.log(1e4))


def test_a_coarser_run_shares_the_bin_of_a_tie_on_both_sides(monkeypatch):
    """Wild values make a run's bins coarse; a value that was half the rows must not seem to have moved."""
    random = np.random.default_rng(2)
    usual = np.concatenate([np.full(1000, 5.3), random.normal(5, 1, 1000)])
    baseline = baseline_of(seen(usual))
    monkeypatch.setattr(sketch, "LIMIT", 60)
    wild = np.concatenate([usual, random.normal(size=20) * 10.0 ** random.integers(-100, 100, 20)])
    found = seen(wild)
    assert found.columns["c"].level > 15
    drifted = one(found, baseline)
    assert drifted.psi < 0.1
    assert drifted.ks < 0.05
    assert math.isclose(sum(bins(found, baseline)["psi"].to_pylist()), drifted.psi)


@few
@given(ANY_FLOATS.filter(len))
def test_identical_data_is_at_no_distance(values):
    found = seen(values)
    same = one(found, baseline_of(found))
    assert (same.status, same.psi, same.js, same.unseen) == ("compared", 0, 0, 0)
    assert same.ks in (0, None)


def test_labels_say_the_bounds_or_the_one_value():
    table = bins(seen([-5.3, 0.0, 7.0, 1.7e9] * 5), None)
    expected = [
        "[-inf, -5.300003052)",
        "[-5.300003052, 0)",
        "[0, 7)",
        "[7, 1699999744)",
        "1.7e+09",
        "[1700000768, inf)",
    ]
    assert table["label"].to_pylist()[1:-3] == expected
    for tie in ("0", "-5.3", "5.3", "1", "1.7e+09", "-1.7e+308", "1.7e+308"):
        assert counts(seen([float(tie)] * 5))[tie] == 5


def test_distances_are_those_of_the_formulas():
    """Four bins of known shares, with nulls; expectations written out or from scipy."""
    before = [1.0] * 50 + [2.0] * 25 + [4.0] * 15 + [None] * 10
    after = [1.0] * 30 + [2.0] * 25 + [4.0] * 25 + [None] * 20
    first, second = seen(before, kind=pa.float64()), seen(after, kind=pa.float64())
    found, back = one(second, baseline_of(first)), one(first, baseline_of(second))
    p, q = np.array([0.3, 0.25, 0.25, 0.2]), np.array([0.5, 0.25, 0.15, 0.1])
    expected = -0.2 * math.log(0.3 / 0.5) + 0.1 * math.log(0.25 / 0.15) + 0.1 * math.log(0.2 / 0.1)
    assert math.isclose(found.psi, expected)
    assert math.isclose(found.psi, back.psi)
    assert math.isclose(found.js, jensenshannon(p, q, base=2))
    assert math.isclose(found.ks, 50 / 90 - 30 / 80)
    assert math.isclose(found.noise, 3 * (1 / 100 + 1 / 100))
    assert (found.rows, found.null_fraction, found.baseline_null_fraction) == (100, 0.2, 0.1)


def test_an_empty_bin_counts_as_the_floor_and_can_be_recomputed_from_the_table():
    first, second = seen([1.0] * 100), seen([1.0] * 90 + [NAN] * 10)
    found = one(second, baseline_of(first))
    assert math.isclose(found.psi, -0.1 * math.log(0.9) + (0.1 - 1e-4) * math.log(0.1 / 1e-4))
    table = bins(second, baseline_of(first))
    p, q = (np.maximum(table[name].to_numpy(), 1e-4) for name in ("fraction", "baseline_fraction"))
    assert math.isclose(found.psi, ((p - q) * np.log(p / q)).sum())
    assert math.isclose(found.js, jensenshannon(table["fraction"], table["baseline_fraction"], base=2))


@few
@given(hnp.arrays(np.int8, st.integers(1, 200), elements=st.integers(0, 9)), hnp.arrays(np.int8, 50, elements=st.integers(0, 9)))  # fmt: skip
def test_ks_is_scipys_where_every_value_has_its_bin(first, second):
    first = np.concatenate([first, np.repeat(np.arange(10, dtype=np.int8), 50)])
    found = one(seen(second), baseline_of(seen(first)))
    assert math.isclose(found.ks, ks_2samp(first, second).statistic, abs_tol=1e-12)


def test_a_shifted_normal_gives_about_the_psi_of_its_densities():
    """PSI of N(0,1) and N(d,1) is d² in the limit of many bins; 20 keep nearly all of it."""
    random = np.random.default_rng(3)
    baseline = baseline_of(seen(*random.normal(size=(8, MANY))))
    assert 17 <= len(baseline.columns["c"].edges) <= 26
    found = one(seen(*random.normal(0.5, 1, size=(8, MANY))), baseline)
    assert 0.22 < found.psi < 0.26
    assert abs(found.ks - 0.1974) < 0.01  # 2 Φ(d/2) − 1
    assert abs(found.mean - 0.5) < 0.02
    assert abs(found.baseline_deviation - 1) < 0.02


def test_stable_samples_stay_below_a_hundredth_and_near_the_noise_that_is_told():
    random = np.random.default_rng(4)
    draws = (lambda: random.normal(size=MANY), lambda: random.lognormal(0, 3, MANY), lambda: random.poisson(0.3, MANY))
    for draw in draws:
        baseline = baseline_of(seen(draw(), draw(), draw(), draw()))
        found = [one(seen(draw(), draw()), baseline) for _ in range(10)]
        assert max(column.psi for column in found) < 0.01
        assert 0.5 < np.mean([column.psi for column in found]) / found[0].noise < 1.5


def test_big_and_small_batches_count_by_their_rows():
    found = seen(np.zeros(MANY), np.ones(MANY // 16), np.full(5000, 2.0))
    told = counts(found)
    assert told["[0, 1)"] == pytest.approx(MANY, rel=1e-3)
    assert told["[1, 2)"] == pytest.approx(MANY // 16, rel=1e-3)
    assert sum(told.values()) == pytest.approx(MANY + MANY // 16 + 5000, rel=1e-3)
    assert found.columns["c"].rows == MANY + MANY // 16 + 5000
    assert found.columns["c"].sampled < 3 * 4096 + 1


def test_of_very_many_columns_fewer_rows_are_looked_at():
    names = [f"x{n}" for n in range(600)]
    batch = pa.record_batch([pa.array(np.arange(4000.0))] * 600, names=names)
    sketches = start(batch.schema, names)
    observe(sketches, batch)
    column = dump(sketches)["columns"]["x599"]
    assert (column["rows"], column["sampled"]) == (4000, 1334)


@pytest.mark.parametrize("rows", [0, 1, 4096, 4097, 5000, 8192, 8193, 65_535, 65_536, 1_000_003])
def test_the_sample_is_small_spread_and_in_range(rows):
    weight, taken = sketch._sample(rows, 4096)
    if taken is None:
        assert rows <= 4096
        return
    places = taken.to_numpy()
    assert 2048 <= len(places) <= 4096
    assert places[-1] < rows
    assert (places // weight == np.arange(len(places))).all()
    assert abs(weight * len(places) - rows) <= weight


@pytest.mark.parametrize("cycle", [2, 3, 7, 8, 16, 24, 32, 64, 365])
def test_rows_that_come_in_a_cycle_are_seen_at_every_place_of_it(cycle):
    values = (np.arange(MANY) % cycle < cycle // 2).astype(float)
    found = seen(values).columns["c"]
    assert found.counts[-1] / found.counts.sum() == pytest.approx(values.mean(), abs=0.02)


def test_specials_count_by_their_rows_too():
    told = counts(seen(np.array([1.0, NAN, INF, -INF] * (MANY // 4)), [1.0, NAN]))
    assert [told[name] for name in ("nan", "inf", "-inf")] == pytest.approx([MANY // 4] * 3, rel=0.02)


def test_nulls_are_exact_in_sampled_batches_and_slices():
    random = np.random.default_rng(5)
    gone = random.random(MANY) < 0.3
    array = pa.array(np.where(gone, 99.0, 1.0), mask=gone).slice(777)
    found = seen(array)
    assert found.columns["c"].nulls == gone[777:].sum()
    assert counts(found)["null"] == gone[777:].sum()
    assert found.columns["c"].keys.tolist() == sketch.keys_of(np.array([1.0])).tolist()
    sliced = seen(pa.array(np.arange(float(MANY))).slice(60_000))
    assert sliced.columns["c"].keys[0] >= sketch.keys_of(np.array([60_000.0]))[0]


@pytest.mark.parametrize(
    ("kind", "values", "numbers"),
    [
        (pa.int64(), [2**53 + 1, -(2**63), 2**63 - 1, None], [2.0**53, -(2.0**63), 2.0**63]),
        (pa.uint64(), [2**64 - 1, None], [2.0**64]),
        (pa.int8(), [-128, 127], [-128, 127]),
        (pa.float32(), [0.5, None, NAN, INF, -INF], [0.5]),
        (pa.bool_(), [True, False, None, True], [0, 1]),
        (pa.decimal128(38, 2), [Decimal("-12.50"), None], [-12.5]),
        (pa.date32(), [dt.date(1970, 1, 11), None], [10]),
        (pa.date64(), [dt.date(1969, 12, 31)], [-1]),
        (pa.timestamp("us", "UTC"), [dt.datetime(1970, 1, 1, 0, 1), None], [60]),
        (pa.timestamp("ns"), [1_500_000_000], [1.5]),
        (pa.dictionary(pa.int8(), pa.float64()), [1.5, None, 1.5], [1.5]),
    ],
)
@pytest.mark.parametrize("times", [1, 5000])
def test_numbers_of_every_type(kind, values, numbers, times):
    found = seen(pa.array(values * times, kind)).columns["c"]
    assert found.keys.tolist() == sorted({int(key) for key in sketch.keys_of(np.array(numbers, float))})
    assert (found.rows, found.nulls) == (len(values) * times, values.count(None) * times)
    assert found.nan > 0 if any(v is not None and v != v for v in values) else found.nan == 0


@pytest.mark.parametrize("values", [[], [None, None], [NAN], [INF, -INF], [None, NAN, INF]])
def test_columns_without_a_number(values):
    found = seen(values, kind=pa.float64())
    baseline = Baseline.from_json(baseline_of(found).to_json())
    assert baseline == baseline_of(found)
    assert baseline.columns["c"].edges == ()
    assert baseline.columns["c"].mean is None
    assert sum(bins(found, baseline)["count"].to_pylist()) == len(values)
    column = one(found, baseline)
    assert (column.status, column.psi) == (("compared", 0) if values else ("empty", None))
    other = one(seen([1.0, 2.0]), baseline)
    assert other.psi is None if not values else other.psi > 1
    assert one(found, baseline_of(seen([1.0]))).status == ("compared" if values else "empty")


def test_texts_are_counted_by_value():
    found = seen(["a", "b", None, "a"], ["c" * 300, "c" * 200, "other"])
    assert found.columns["c"].values == {"a": 2, "b": 1, "c" * 100: 2, "other": 1}
    baseline = baseline_of(found)
    assert baseline.columns["c"].values == ("a", "c" * 100, "b", "other")
    column = one(seen(["a"] * 6 + ["new"]), baseline)
    assert math.isclose(column.unseen, 1 / 7)
    assert column.ks is None
    table = bins(found, baseline)
    assert table["kind"].to_pylist() == ["value"] * 4 + ["other", "null"]
    assert table["count"].to_pylist() == [2, 2, 1, 1, 0, 1]


def test_text_in_dictionaries_large_or_not_utf8():
    kinds = (pa.large_string(), pa.dictionary(pa.int32(), pa.string()))
    for kind in kinds:
        assert seen(pa.array(["x", "y", "x", None] * 1024, kind)).columns["c"].values == {"x": 2048, "y": 1024}
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")]
    )
    assert seen(broken).columns["c"].values == {"\ufffd": 1}


def test_a_text_of_many_values_keeps_the_frequent_ones_and_counts_the_rest():
    random = np.random.default_rng(6)
    rows = [[f"id{n}" for n in random.integers(0, 10**6, 4000)] + ["often"] * 96 for _ in range(5)]
    dumps = [dumped(*rows[:3]), dumped(*rows[3:])]
    found = merge(dumps)
    text = found.columns["c"]
    assert len(text.values) == 1000
    assert text.values["often"] == 5 * 96
    assert text.values.total() + text.other == 5 * 4096
    assert content(merge(dumps[::-1])) == content(found)
    assert baseline_of(found).columns["c"].values[0] == "often"


def test_columns_that_one_side_lacks_or_that_have_no_bins_are_told():
    schema = pa.schema([("a", pa.int32()), ("t", pa.string()), ("l", pa.list_(pa.int32())), ("b", pa.binary())])
    sketches = start(schema, ["t", "l", "a", "b", "a"])
    batch = pa.record_batch([pa.array([1, 2], pa.int32()), ["x", "y"], [[1], []], [b"", b""]], schema=schema)
    observe(sketches, batch)
    found = merge([dump(sketches)])
    assert list(found.columns) == ["t", "a"]
    assert found.left_out.keys() == {"l", "b"}
    old = merge([dumped([1.0], name="t"), dumped([1.0], name="gone")])
    told = {c.column: c for c in drift(found, baseline_of(old))}
    assert {name: c.status for name, c in told.items()} == {"t": "retyped", "a": "added", "gone": "missing"}
    assert all(c.psi is None for c in told.values())
    assert (told["gone"].rows, told["gone"].baseline_rows, told["a"].rows) == (None, 1, 2)
    table = bins(found, baseline_of(old)).to_pydict()
    sides = {n: (p is None, q is None) for n, p, q in zip(table["column"], table["fraction"], table["baseline_fraction"], strict=True)}  # fmt: skip
    assert sides == {"t": (False, True), "a": (False, True), "gone": (True, False)}
    assert set(table["psi"]) == {None}
    assert bins(found, None).schema == profile.PROFILES
    assert bins(merge([]), None).schema == profile.PROFILES
    with pytest.raises(KeyError):
        start(schema, ["none"])


@few
@given(ANY_FLOATS, st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=20))
def test_a_baseline_survives_json(values, texts):
    found = merge([dumped(values), dumped(texts, kind=pa.string(), name="t")])
    baseline = baseline_of(found)
    text = baseline.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert Baseline.from_json(text) == baseline


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2, "columns": {}}', '{"version": 1, "columns": {"a": {}}}', '{"version": 1, "columns": {"a": 1}}'])  # fmt: skip
def test_what_is_no_baseline_is_refused(text):
    with pytest.raises(ConfigError, match="baseline"):
        Baseline.from_json(text)


def test_dumps_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="'c' was profiled as double and as string"):
        merge([dumped([1.0]), dumped(["x"])])
    with pytest.raises(ConfigError, match="version 9"):
        merge([dumped([1.0]) | {"version": 9}])


def test_memory_and_dumps_stay_small_however_wild_the_values():
    random = np.random.default_rng(7)
    sketches = start(pa.schema([("c", pa.float64())]), ["c"])
    for _ in range(100):
        wild = random.integers(-(2**63), 2**63 - 1, 4096).view(np.float64)
        observe(sketches, pa.record_batch([wild], names=["c"]))
        column = sketches.columns["c"]
        assert len(column.keys) <= sketch.LIMIT
        assert sum(len(keys) for _, keys in column.pending) < 8 * 4096
    assert len(json.dumps(dump(sketches))) < 30_000
    empty = start(pa.schema([("c", pa.float64())]), ["c"])
    for _ in range(20_000):
        observe(empty, pa.record_batch([pa.nulls(0, pa.float64())], names=["c"]))
    assert len(empty.columns["c"].pending) <= 2 * 4096
