"""Published scores by key: the newest date's, as the table has them now, from the files that can hold the key."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.serving.lookup import Published
from lakehouse.serving.messages import Refusal
from lakehouse.serving.prepared import JobFile
from tests.conftest import opened, score, write


@pytest.fixture(scope="module")
def doubling(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 2), x)


def rows(day, *values):
    ids = [number for number, _ in values]
    return pa.table({"id": ids, "a": [float(value) for _, value in values], "day": [day] * len(values)})


@pytest.fixture
def dated(make_job, doubling):
    """dated(day, (id, a), …) scores that day's rows; the job's published scores."""

    def publish(day, *values):
        write("lake/features", rows(day, *values))
        more = {"source": {"where": "day = '{date}'"}, "slice": {"score_date": "{date}"}}
        score(make_job(doubling, date=day, predictions={"p": "*"}, **more))

    return publish


@pytest.fixture
def published(workspace):
    return Published(JobFile(str(workspace / "conf" / "scores.yaml")))


def p_of(published, key, date=None):
    return published.find(key, date).row.column("p")[0].as_py()


def test_the_newest_date_is_looked_at_and_others_by_name(dated, published):
    dated("2026-01-02", (1, 3.0))
    dated("2026-01-01", (1, 1.0), (2, 2.0))  # an older date, filled in afterwards
    published.refresh()
    assert p_of(published, "1") == pytest.approx(6.0)
    assert p_of(published, "1", "2026-01-01") == pytest.approx(2.0)
    with pytest.raises(Refusal, match="id=2 has no score in lake/scores") as refused:
        published.find("2")
    assert refused.value.status == 404
    with pytest.raises(Refusal, match="has published for the date 2026-02-28; the newest is 2026-01-02"):
        published.find("1", "2026-02-28")
    with pytest.raises(Refusal, match="'2026-02-30' is not a date") as refused:
        published.find("1", "2026-02-30")
    assert refused.value.status == 400


def test_a_row_was_published_when_its_own_run_was_and_not_the_newest(make_job, doubling, published):
    more = {"predictions": {"p": "*"}, "sinks": [{"type": "delta", "table": "lake/scores", "write": "merge"}]}
    times = {}
    for values in ([(1, 1.0), (2, 2.0)], [(2, 4.0)]):
        write("lake/features", rows("d", *values), mode="overwrite")
        score(make_job(doubling, **more))
        published.refresh()
        times[len(times)] = max(record["finished_at"] for record in published._records)
    assert published.find("1").published_at == times[0] < times[1]
    assert published.find("2").published_at == times[1]


def test_of_many_dates_some_are_remembered(dated, published, monkeypatch):
    from lakehouse.serving import lookup

    monkeypatch.setattr(lookup, "_DATES", 3)
    days = [f"2026-01-0{day}" for day in range(1, 6)]
    for number, day in enumerate(days):
        dated(day, (number, float(number)))
    published.refresh()
    assert [p_of(published, str(n), day) for n, day in enumerate(days)] == pytest.approx([0.0, 2.0, 4.0, 6.0, 8.0])
    assert [*published._versions] == [None, days[-1], days[-2]]


def test_what_is_known_stands_until_the_next_look(dated, published):
    dated("2026-01-01", (1, 1.0))
    assert published.refresh()
    assert not published.refresh()
    dated("2026-01-02", (1, 5.0))
    assert p_of(published, "1") == pytest.approx(2.0)
    assert published.refresh()
    assert p_of(published, "1") == pytest.approx(10.0)
    assert published.find("1").slice == {"score_date": "2026-01-02"}
    opened("lake/scores").delete("score_date = '2026-01-02'")
    published.refresh()
    with pytest.raises(Refusal):
        published.find("1")


def test_only_files_that_may_hold_the_key_are_read_each_once(make_job, doubling, published, monkeypatch):
    from lakehouse.serving import lookup

    for start in (0, 1_000):
        write("lake/features", rows("d", *((n, n) for n in range(start, start + 10))))
    score(make_job(doubling, predictions={"p": "*"}))
    read, own = [], lookup._read
    monkeypatch.setattr(lookup, "_read", lambda version, file, most: read.append(file.name) or own(version, file, most))
    published.refresh()
    with pytest.raises(Refusal):
        published.find("500000")
    assert read == []
    assert p_of(published, "3") == pytest.approx(6.0)
    assert p_of(published, "4") == pytest.approx(8.0)
    assert len(read) == 1


def test_before_a_run_has_published_there_is_nothing_to_find(make_job, doubling, published):
    make_job(doubling, predictions={"p": "*"})
    with pytest.raises(Refusal, match="try again"):
        published.find("1")
    published.refresh()
    with pytest.raises(Refusal, match="no run of this job has published yet"):
        published.find("1")


def test_a_key_of_several_columns_that_can_not_be_taken_apart_is_refused(make_job, doubling, published):
    table = pa.table({"id": [1, 2], "name": ["y\nz", "b"], "a": [1.0, 2.0]})
    write("lake/features", table)
    score(make_job(doubling, keys=["id", "name"], predictions={"p": "*"}))
    published.refresh()
    assert p_of(published, '1,"y\nz"') == pytest.approx(2.0)
    for key, said in {
        "1,y\nz": "'1,y.nz' can't be taken apart .new-line.*in double quotes",
        "1,y\rz": "can't be taken apart",
        "x" * 200_000 + ",1": "'x{80}'… can't be taken apart .field larger",
    }.items():
        with pytest.raises(Refusal, match=said.replace(".nz", r"\\nz")) as refused:
            published.find(key)
        assert refused.value.status == 400
