"""Columns may have any names: also those that verify, diff and compare might give columns of their own."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakehouse.operations import matching
from tests.command import run
from tests.conftest import score, write
from tests.operations.conftest import registered

NAMES = ["_id", "held", "live", "#", "#_count", "#_min", "row", "other", "row_min", "row_count", "count_all", "0", "1"]
CONF = "conf/scores.yaml"


@pytest.fixture(scope="module")
def models(register):
    return registered(register, 1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_matched_by_a_key_of_any_name(name):
    keys = [name, "1" if name != "1" else "0"]
    one = pa.table({keys[0]: [1, 2, 2, 3], keys[1]: ["a", "b", "b", "c"], "value": [10, 20, 21, 30]})
    two = pa.table({keys[0]: [3, 4, 1, 1], keys[1]: ["c", "d", "x", "x"], "value": [300, 400, 100, 101]})
    mine, other = matching.once(one, keys)[0], matching.once(two, keys)[0]
    assert (mine["value"].to_pylist(), other["value"].to_pylist()) == ([10, 30], [300, 400])
    here, there, alone, missing = matching.match(mine, other, keys)
    found = [table["value"].to_pylist() for table in (here, there, alone, missing)]
    assert found == [[30], [300], [10], [400]]
    assert matching.without_repeated(one, two, [name])["value"].to_pylist() == [30]  # 2 is there twice, 1 in the other


@pytest.mark.parametrize(
    ("keys", "keep", "prediction"),
    [(["_id", "#"], ["_kept", "held"], "count_all"), (["there.p", "row"], ["live", "#_count"], "p")],
)
def test_commands_take_columns_of_any_name(make_job, models, capfd, keys, keep, prediction):
    rows = {name: range(6) for name in (*keys, *keep)}
    write("lake/features", pa.table({**rows, "a": [float(number) for number in range(6)]}))
    sections = {"keys": keys, "keep": keep, "predictions": {prediction: 0}}
    first = score(make_job(models[0], **sections))
    verified = run(capfd, "verify", CONF, "--run", first.run_id, "--json")
    assert (verified.code, verified.json["equal"]) == (0, 6), verified
    explained = run(capfd, "explain", CONF, "--key", "3,3", "--json")
    assert (explained.code, explained.json["equal"]) == (0, True), explained
    compared = run(capfd, "compare", CONF, "--with", "lake/scores", "--json")
    assert (compared.code, compared.json["rows"]["matched"]) == (0, 6), compared
    waits = score(make_job(models[1], **sections), hold=True)
    differs = run(capfd, "diff", CONF, "--run", waits.run_id, "--json")
    assert (differs.code, differs.json["changed"] + differs.json["same"]) == (0, 6), differs


def test_a_key_that_the_table_has_under_another_name_is_named(make_job, models, capfd):
    write("lake/features", pa.table({"id": range(3), "ident": range(3), "a": [1.0, 2.0, 3.0]}))
    first = score(make_job(models[0], predictions={"p": 0}, receipts=None))
    make_job(models[0], keys=["ident"], predictions={"p": 0})
    for words in (
        ("explain", CONF, "--key", "2"),
        ("explain", CONF, "--key", "2", "--run", first.run_id),
        ("prove", CONF, "--key", "2"),
        ("verify", CONF, "--run", first.run_id),
    ):
        said = run(capfd, *words)
        assert said.code == 2, said
        assert "lake/scores has no column 'ident', which scores needs as its job file is now" in said.err


def test_a_version_from_before_a_key_was_renamed_says_so(make_job, models, capfd):
    write("lake/features", pa.table({"id": range(3), "ident": range(3), "a": [1.0, 2.0, 3.0]}))
    first = score(make_job(models[0], predictions={"p": 0}))
    rows = pa.table({"ident": pa.array([7], pa.int64()), "p": [1.0], "_run_id": ["hand"]})
    write("lake/scores", rows, mode="overwrite", schema_mode="overwrite")
    write("lake/scores_state/nothing", rows)  # the state folder stays as it is
    make_job(models[0], keys=["ident"], predictions={"p": 0})
    said = run(capfd, "explain", CONF, "--key", "2", "--run", first.run_id)
    assert (said.code, "Traceback" in said.err) == (2, False), said
    assert "lake/scores v1 has no column 'ident'" in said.err


@pytest.mark.parametrize(
    ("kind", "values", "key", "code"),
    [
        (pa.float64(), [float("nan"), float("inf"), -0.5], "nan", 0),
        (pa.float64(), [float("nan"), float("inf"), -0.5], "inf", 0),
        (pa.int64(), [1, 2, 3], "nan", 2),
        (pa.int64(), [1, 2, 3], "9" * 30, 2),
        (pa.timestamp("us"), [1, 2, 3], "50000-01-01", 2),
        (pa.date32(), [1, 2, 3], "10000-01-01", 2),
    ],
)
def test_odd_values_of_a_key_are_found_or_refused(make_job, models, capfd, kind, values, key, code):
    write(
        "lake/features",
        pa.table(
            {"id": pa.array(values, pa.int32() if kind == pa.date32() else None).cast(kind), "a": [1.0, 2.0, 3.0]}
        ),
    )
    score(make_job(models[0], predictions={"p": 0}))
    said = run(capfd, "explain", CONF, "--key", key)
    assert (said.code, "Traceback" in said.err) == (code, False), said
    assert code == 0 or f"--key: '{key}' is no value of id" in said.err
