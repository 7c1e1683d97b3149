"""`lakehouse compare`: the live scores beside those of a script that the job replaces."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.errors import ConfigError
from lakehouse.operations import comparison, distances
from lakehouse.operations.counterpart import Asked
from tests.command import run
from tests.conftest import read, score, write

DAY = "2026-01-02"
ROWS = 600
BIG = 2**53


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 0.25), x)


@pytest.fixture
def live(make_job, uri):
    """The scored job, and its live rows by the table's own reader."""
    rng = np.random.default_rng(5)
    ids = np.arange(ROWS, dtype=np.int64)
    ids[-3:] = BIG + 1, BIG + 3, BIG + 6
    balance = ids * 7 + 1
    write("lake/features", pa.table({"id": ids, "a": rng.uniform(0, 4, ROWS), "balance": balance}))
    job = make_job(
        uri, date=DAY, slice={"score_date": "{date}"}, keep=["balance"],
        predictions={"p": 0, "high": {"output": 0, "threshold": 0.6}},
    )  # fmt: skip
    assert score(job).status == "published"
    return job, read("lake/scores")


def script(rows: pa.Table, folder: str = "lake/script", **columns) -> str:
    """A folder of Parquet files as a script might write it, named otherwise than ours."""
    table = {"customer": rows["id"], "score": rows["p"], **columns}
    pq.write_to_dataset(pa.table(table), folder)
    return folder


def compared(job, table="lake/script", on=None, **more):
    return comparison.compare(job, Asked(table, on or {"p": "score"}, {"id": "customer"}, **more))


def test_it_is_what_duckdb_finds(live, capfd):
    job, rows = live
    rng = np.random.default_rng(7)
    p = np.array(rows["p"])
    steps = rng.choice([0, 5e-13, 5e-10, 5e-7, 5e-4, 0.2], ROWS)
    other = np.where(rng.uniform(size=ROWS) < 0.1, np.nan, p + steps)
    there = pa.table({"customer": rows["id"], "score": pa.array(other, from_pandas=True)}).slice(40)
    extra = pa.table({"customer": [10**6, 10**6 + 1, None, 50, 50], "score": [0.5, 0.6, 0.1, 0.2, 0.3]})
    write("lake/script", pa.concat_tables([there, extra]))
    found = compared(job)

    theirs = pa.concat_tables([there, extra])  # noqa: F841  # DuckDB reads it by its name
    duckdb.sql(
        "CREATE OR REPLACE TEMP TABLE t AS SELECT * FROM theirs WHERE customer IS NOT NULL QUALIFY count(*) OVER (PARTITION BY customer) = 1"
    )
    duckdb.sql(
        "CREATE OR REPLACE TEMP TABLE o AS SELECT * FROM rows WHERE id NOT IN (SELECT customer FROM theirs WHERE customer IS NOT NULL GROUP BY 1 HAVING count(*) > 1)"
    )
    both = "FROM o JOIN t ON o.id = t.customer"
    one = "SELECT count(*) FROM {} ANTI JOIN {} ON o.id = t.customer"
    counts = [duckdb.sql(one.format(*pair)).fetchall()[0][0] for pair in (("o", "t"), ("t", "o"))]
    assert [found.rows.only_here, found.rows.only_there] == counts == [40, 2]
    assert found.rows.matched == duckdb.sql(f"SELECT count(*) {both}").fetchall()[0][0] == ROWS - 41
    assert (found.rows.here, found.rows.there) == (ROWS, ROWS - 40 + 5)
    assert (found.rows.repeated_here, found.rows.repeated_there, found.rows.without_key) == (1, 3, 1)
    d = "abs(p - score)"
    sizes = duckdb.sql(
        f"""SELECT count(*) FILTER ({d} = 0), count(*) FILTER ({d} > 0 AND {d} <= 1e-12),
        count(*) FILTER ({d} > 1e-12 AND {d} <= 1e-9), count(*) FILTER ({d} > 1e-9 AND {d} <= 1e-6),
        count(*) FILTER ({d} > 1e-6 AND {d} <= 1e-3), count(*) FILTER ({d} > 1e-3), count(*) FILTER (score IS NULL),
        0 {both}"""
    ).fetchall()[0]
    (prediction,) = found.predictions
    assert tuple(prediction["sizes"].values()) == sizes
    assert min(sizes[:-1]) > 10
    flips = duckdb.sql(f"SELECT count(*) FILTER ((score >= 0.6) <> high) {both} WHERE score IS NOT NULL").fetchall()[0][
        0
    ]
    assert (prediction["flips"], prediction["threshold"]) == (flips, 0.6)
    assert flips > 5
    figures = duckdb.sql(f"SELECT avg(p), avg(score), max({d}) {both} WHERE score IS NOT NULL").fetchall()[0]
    assert [prediction[name] for name in ("own_mean", "their_mean", "furthest")] == pytest.approx(figures)
    (example, *_) = prediction["examples"]["more"]
    assert duckdb.sql(f"SELECT p, score {both} WHERE id = {example['key']['id']}").fetchall()[0] == (
        example["here"], example["there"],
    )  # fmt: skip
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (lambda p: np.round(p, 4), "rounding", "ours rounded to 4 digits"),
        (lambda p: np.round(p, 10), "rounding", "ours rounded to 10 digits"),
        (lambda p: p.astype(np.float32).astype(float), "float32", "ours kept in 32 bits"),
        (lambda p: p.astype(np.float32), "float32", "ours kept in 32 bits"),
    ],
)
def test_rounding_is_told(live, change, reason, words):
    job, rows = live
    script(rows, score=pa.array(change(np.array(rows["p"]))))
    (one,) = compared(job).reasons
    assert (one["reason"], one["rows"] == one["of"] > ROWS - 20) == (reason, True)
    assert words in one["text"]


def test_what_is_no_rounding_is_not_called_so(live):
    job, rows = live
    script(rows, score=pa.array(np.array(rows["p"]) + 1e-13))
    assert compared(job).reasons == ()
    script(rows, folder="lake/large", score=pa.array(np.array(rows["p"]) * 1e7))
    assert compared(job, "lake/large").reasons == ()


def test_a_detour_through_pandas_nulls_is_told(live):
    job, rows = live
    frame = pd.DataFrame(
        {"customer": rows["id"].to_pylist(), "balance": rows["balance"].to_pylist(), "score": rows["p"]}
    )
    frame.loc[len(frame)] = [None, None, 0.1]  # integers are floats from here on
    frame.to_parquet("script.parquet")
    pq.write_to_dataset(pq.read_table("script.parquet"), "lake/script")
    found = compared(job)
    kept, key = found.reasons
    assert [one["reason"] for one in found.reasons] == ["null detour", "null detour"]
    assert (kept["column"], kept["rows"]) == ("balance", 1)
    assert (key["column"], key["rows"], key["of"]) == ("id", 2, 2)
    assert "1 that were matched are so large" in key["text"]
    assert (found.rows.only_here, found.rows.only_there, found.rows.without_key) == (2, 2, 1)


def test_other_versions_are_told_with_the_rows_that_they_explain(live):
    job, rows = live
    here = rows["_model_version"].to_pylist()
    old = [None if i % 2 else "0" for i in range(ROWS)]
    versions = [o or h for o, h in zip(old, here, strict=True)]
    p = np.where([v == "0" for v in versions], np.array(rows["p"]) + 0.1, np.array(rows["p"]))
    script(rows, score=pa.array(p), model_version=pa.array(versions), input_version=rows["_input_version"])
    (one,) = compared(job).reasons
    assert (one["reason"], one["rows"], one["of"]) == ("other model version", ROWS // 2, ROWS // 2)
    assert f"{here[0]} here and 0 there in {ROWS // 2} rows" in one["text"]
    script(rows, folder="lake/old", _input_version=pa.array([7.0] * ROWS))
    (one,) = compared(job, "lake/old").reasons
    assert (one["reason"], one["rows"], one["other"]) == ("other input version", 0, ROWS)


def test_only_the_slice_of_the_other_table_is_compared_where_it_has_one(live):
    job, rows = live
    days = pa.array([DAY if i % 2 else "2026-01-01" for i in range(ROWS)])
    script(rows, SCORE_DATE=days)
    found = compared(job)
    assert (found.rows_there, found.rows.there) == (f"`SCORE_DATE` = '{DAY}'", ROWS // 2)
    assert compared(job, where="customer < 10").rows.there == 10
    script(rows, folder="lake/all")
    assert compared(job, "lake/all").rows_there == "all rows"


def test_labels_and_decisions(live):
    job, rows = live
    high = rows["high"].to_pylist()
    turned = [None if i == 0 else float(h != (i < 5)) for i, h in enumerate(high)]
    script(rows, decided=pa.array(turned))
    (one,) = compared(job, on={"high": "decided"}).predictions
    assert (one["flips"], one["sizes"]["more"], one["sizes"]["null there"], one["sizes"]["equal"]) == (
        4,
        4,
        1,
        ROWS - 5,
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked("lake/nowhere", {}, {}), "--with: there is no"),
        (Asked("lake/script", {"q": "score"}, {"id": "customer"}), "--on q=score: 'q' is none of ours"),
        (Asked("lake/script", {"p": "skore"}, {"id": "customer"}), "has no column 'skore', did you mean 'score'"),
        (Asked("lake/script", {}, {"id": "customer"}), "has no column of the name of a prediction .p, high."),
        (Asked("lake/script", {"p": "score"}, {}), "--keys: .* has no column 'id'"),
        (
            Asked("lake/script", {"p": "name"}, {"id": "customer"}),
            "--on p=name: name is string there, p is double here",
        ),
        (Asked("lake/script", {"p": "score"}, {"id": "name"}), "--keys id=name: name is string there"),
        (Asked("lake/script", {"p": "score"}, {"id": "score"}), "--keys id=score: score has values that id can't have"),
        (Asked("lake/script", {"p": "score"}, {"id": "customer"}, "nope = 1"), "--where"),
    ],
)
def test_what_can_not_be_compared_is_refused(live, asked, said):
    job, rows = live
    script(rows, name=pa.array(["x"] * ROWS))
    with pytest.raises(ConfigError, match=said):
        comparison.compare(job, asked)


def test_nothing_is_compared_with_what_was_never_published(make_job, uri, live):
    script(live[1])
    job = make_job(uri, date="2026-01-03", slice={"score_date": "{date}"}, keep=["balance"])
    with pytest.raises(ConfigError, match="nothing is published in score_date=2026-01-03"):
        compared(job)


def test_integers_that_no_float_tells_apart_are_not_equal():
    ours = pa.chunked_array([[BIG + 1, 5, None]])
    found = distances.measure(ours, pa.chunked_array([[float(BIG), 5.0, None]]))
    assert (found.sizes["equal"], found.sizes["more"], found.integers) == (2, 1, 1)


def test_the_command(live, capfd):
    script(live[1], score=pa.array(np.round(np.array(live[1]["p"]), 3)))
    done = run(
        capfd, "compare", "conf/scores.yaml", "--date", DAY, "--with", "lake/script", "--on", "p=score", "--keys", "id=customer"
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(
        f"score_date={DAY}: 600 rows here; lake/script (all rows): 600 rows\n600 matched by key, 0 only"
    )
    assert "rounding: score is ours rounded to 3 digits (600 of 600 rows)" in done.out
    as_json = run(capfd, "compare", "conf/scores.yaml", "--date", DAY, "--with", "lake/script", "--on", "p=score",
                  "--keys", "id=customer", "--json").json  # fmt: skip
    assert (as_json["rows"]["matched"], as_json["on"]) == (600, {"p": "score"})
    wrong = run(capfd, "compare", "conf/scores.yaml", "--date", DAY, "--with", "lake/script", "--on", "p")
    assert (wrong.code, "--on p: write our column = the other table's" in wrong.err) == (2, True)
