"""`lakehouse sweep` in the state folder: small files are merged a job, records go that nothing stands on any more."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pytest
from deltalake import DeltaTable
from sklearn.linear_model import LinearRegression

from lakehouse.connectors import delta
from lakehouse.connectors.delta import snapshot as snapshots
from lakehouse.engines import local
from lakehouse.errors import Blocked
from lakehouse.operations import lookup, replay, sweep
from lakehouse.operations.leftover import OUTDATED, RECORD, SMALL
from lakehouse.pipeline import Request
from lakehouse.planning import naming
from lakehouse.runs import evidence, ledger, tables
from lakehouse.storage import tree
from tests import command
from tests.conftest import opened, read, requests, score, write

DAYS = ["2026-01-01", "2026-01-02"]


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"]), x)


@pytest.fixture
def daily(make_job, uri, monkeypatch, lake):
    """A job with a slice a day, in each of which a row has no key."""
    monkeypatch.setattr(local, "cores", lambda: 1)
    rows = [(i, day) for day in DAYS for i in (1, 2, None)]
    days = [day for _, day in rows]
    write(f"{lake}/features", pa.table({"id": [i for i, _ in rows], "a": [0.1] * 6, "day": days}), ["day"])

    def make(day=DAYS[0], **sections):
        given = {
            "slice": {"score_date": "{date}"}, "predictions": {"p": 0},
            "checks": {"quarantine": {"max_fraction": 0.5}}, "retention": {"runs": "1 day"}, **sections,
        }  # fmt: skip
        return make_job(uri, date=day, source={"where": "day = '{date}'"}, lake=lake, **given)

    return make


@pytest.fixture
def swept(monkeypatch):
    """What a sweep finds, by default two days after everything that has been."""

    def find(job, take_away=True, days=2):
        now = datetime.now(UTC) + timedelta(days=days)
        with monkeypatch.context() as patched:
            patched.setattr(ledger, "now", lambda: now)
            return [(one.what, one.run_id, one.kept) for one in sweep.sweep(job, take_away=take_away)]

    return find


def runs_in(job):
    """The runs that each thing in the state folder names."""
    state = naming.state_of(job)
    held = {name: set(read(state.join(name).uri)["run_id"].to_pylist()) for name in evidence.TABLES}
    return {**held, "reports": {path.split(".")[0] for path in tree(state.join("reports"))}}


@pytest.mark.quick("disk")
def test_records_go_of_which_nothing_lives_and_all_goes_on(daily, swept):
    old, new, other = score(daily()), score(daily(), rescore=True), score(daily(DAYS[1]))
    assert [swept(daily(retention={})), swept(daily(), days=0)] == [[], []]
    before = runs_in(daily())
    assert swept(daily(), take_away=False) == [(RECORD, old.run_id, None)]
    assert runs_in(daily()) == before
    assert swept(daily()) == [(RECORD, old.run_id, None)]
    assert runs_in(daily()) == {what: {new.run_id, other.run_id} for what in before}
    assert swept(daily()) == []
    assert [score(daily(day)).status for day in DAYS] == ["unchanged", "unchanged"]
    record = ledger.record_of(naming.state_of(daily()), "scores", other.run_id)
    request = Request("local", ledger.now(), "11111111-1111-4111-8111-111111111111")
    with pytest.raises(Blocked, match="key_not_null"):  # as it was when it was set aside
        replay.replay(daily(DAYS[1]), record, request)


@pytest.mark.quick("disk")
def test_rows_decide_whose_record_stays(daily, swept, lake):
    """Rows that were merged, restored or deleted by a person: whoever has some in the table stays, whatever came later."""
    first = score(daily())
    version = opened(f"{lake}/scores").version()
    second, other = score(daily(), rescore=True), score(daily(DAYS[1]))
    opened(f"{lake}/scores").restore(version)
    gone = [(RECORD, run, None) for run in sorted([second.run_id, other.run_id])]  # no row of them is there
    assert sorted(swept(daily(), take_away=False)) == gone
    opened(f"{lake}/scores").optimize.compact()
    assert sorted(swept(daily())) == gone
    assert runs_in(daily())["runs"] == {first.run_id}


@pytest.mark.quick("disk")
def test_a_run_that_waits_to_be_finished_stays(daily, swept, monkeypatch):
    old = score(daily())
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "remove_intent", lambda *_: None)
        waiting = score(daily(), rescore=True)
        score(daily(), rescore=True)
    assert [run for what, run, _ in swept(daily()) if what == RECORD] == [old.run_id]
    assert waiting.run_id in runs_in(daily())["runs"]


def copies(job, name, runs, of="scores"):
    """The rows of the job's newest run once more, as of other runs, or another job's."""
    place = naming.state_of(job).join(name)
    held = read(place.uri)
    newest = held.filter(pa.compute.equal(held["run_id"], held["run_id"][-1])).drop_columns(["format"])
    for run in runs:
        same = {"run_id": run, "job": of}
        rows = pa.table([pa.repeat(same[n], len(newest)) if n in same else newest[n] for n in newest.column_names],
                        newest.schema)  # fmt: skip
        tables.append(place, rows.combine_chunks().to_batches()[0], f"{name}/{run}", name, ledger.formats.RECORD)


def files_read(monkeypatch, act):
    """How many data files are opened while something is done."""
    seen = Counter()
    with monkeypatch.context() as patched:
        real = snapshots.open_parquet
        patched.setattr(snapshots, "open_parquet", lambda *given, **more: seen.update([1]) or real(*given, **more))
        act()
    return seen[1]


@pytest.mark.quick("disk")
def test_small_files_are_merged_a_job(daily, swept, monkeypatch, capfd):
    """What was read before is read after, other jobs' files are left alone, and a merged one holds rows of one job."""
    result = score(daily())
    monkeypatch.setattr(tables, "MANY", 5)
    job, state = daily(retention={}), naming.state_of(daily())
    for name in evidence.TABLES:
        copies(daily(), name, [f"0{n}" for n in range(5)])
        copies(daily(), name, [f"1{n}" for n in range(3)], of="other")
    before = {name: read(state.join(name).uri) for name in evidence.TABLES}
    records = ledger.runs(state, "scores")
    assert files_read(monkeypatch, lambda: ledger.runs(state, "scores")) == 6
    assert swept(job, take_away=False) == [(SMALL, "", None)] * 3
    shown = command.run(capfd, "sweep", job.path).out.splitlines()
    assert [(line.split("  ")[1], line.split("  ")[-1].strip()) for line in shown[:3]] == [
        ("small files", "can be merged")
    ] * 3
    assert shown[3] == "add --remove to merge these"
    assert swept(job) == [(SMALL, "", None)] * 3
    assert swept(job, days=0) == []
    for name, rows in before.items():
        order = [(column, "ascending") for column in rows.column_names]
        assert read(state.join(name).uri).sort_by(order).equals(rows.sort_by(order))
        snapshot = delta.open_table(state.join(name))
        assert len(snapshot.files()) == 4
        assert delta.data_changes(snapshot, snapshot.version - 1) == []
    assert ledger.runs(state, "scores") == records
    assert files_read(monkeypatch, lambda: ledger.runs(state, "scores")) == 1
    assert files_read(monkeypatch, lambda: ledger.runs(state, "other")) == 3
    record = {**records[0], "run_id": result.run_id}
    ledger.record(state, record)  # a second time, by whoever finishes the run too
    assert len(ledger.runs(state, "scores")) == 6
    assert score(daily(), rescore=True).status == "published"
    assert len(ledger.runs(state, "scores")) == 7


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_what_is_looked_up_opens_the_files_that_it_needs(daily, monkeypatch):
    score(daily())
    newest = [score(daily(), rescore=True), score(daily(DAYS[1]))]
    counted = []
    assert files_read(monkeypatch, lambda: lookup.status(daily())) == 2  # of the slice's two runs
    assert files_read(monkeypatch, lambda: counted.extend(evidence.quarantine_counts(daily(), every=False))) == 3 + 2
    assert {row["run_id"]: row["rows"] for row in counted} == {run.run_id: 1 for run in newest}
    assert files_read(monkeypatch, lambda: evidence.quarantine_counts(daily(), every=True)) == 3 + 3


@pytest.mark.long
@pytest.mark.parametrize("lake", ["S3"], indirect=True)
def test_a_sweep_asks_no_more_for_each_run_that_there_was(daily, swept, s3_server):
    def asked(runs):
        for _ in range(runs):
            score(daily(retention={}), rescore=True)
        requests(s3_server)
        assert swept(daily(retention={})) == []
        return [request for request in requests(s3_server) if "_delta_log" not in request]

    few = len(asked(1))
    assert len(asked(3)) == few


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_another_writer_comes_first_and_nothing_is_lost(daily, swept, monkeypatch):
    old, new = score(daily()), score(daily(), rescore=True)
    before, state, real = runs_in(daily()), naming.state_of(daily()), delta.commit

    def first(snapshot, *given, **more):
        with monkeypatch.context() as patched:
            patched.setattr(delta, "commit", real)
            copies(daily(), snapshot.location.path.rpartition("/")[2], ["another"])
        return real(snapshot, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(delta, "commit", first)
        assert swept(daily()) == [(RECORD, old.run_id, "another run was recorded meanwhile: sweep again")]
    assert {old.run_id, new.run_id} <= set.intersection(*[runs_in(daily())[name] for name in evidence.TABLES])
    assert runs_in(daily())["metrics"] - {"another"} == before["metrics"]
    live = {file.path for file in delta.open_table(state.join("metrics")).files()}
    assert {f"records/{path}" for path in tree(state.join("metrics", "records"))} == live

    def lost(*given, **more):
        real(*given, **more)
        raise delta.Conflict("the reply was lost")

    with monkeypatch.context() as patched:
        patched.setattr(delta, "commit", lost)
        assert (RECORD, old.run_id, None) in swept(daily())
    assert old.run_id not in set.union(*runs_in(daily()).values())
    assert new.run_id in runs_in(daily())["runs"]


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_merged_files_go_after_a_week(daily, swept, monkeypatch):
    score(daily())
    score(daily(), rescore=True)
    swept(daily())
    monkeypatch.setattr(snapshots.Snapshot, "outdated_files", lambda self, take_away: set(
        DeltaTable(self.location.uri).vacuum(0, not take_away, enforce_retention_duration=False, full=True)))  # fmt: skip
    held = {name: read(naming.state_of(daily()).join(name).uri) for name in evidence.TABLES}
    assert swept(daily(), take_away=False) == [(OUTDATED, "", None)] * 3
    assert swept(daily()) == [(OUTDATED, "", None)] * 3
    assert swept(daily()) == []
    assert {name: read(naming.state_of(daily()).join(name).uri) for name in evidence.TABLES} == held


@pytest.mark.quick("disk")
def test_what_published_to_a_table_that_the_job_no_longer_names_stays(daily, swept, lake):
    old = score(daily())
    moved = {"sinks": [{"type": "delta", "table": f"{lake}/moved"}], "state": naming.state_of(daily()).uri}
    score(daily(**moved))
    score(daily(), rescore=True)
    assert swept(daily(**moved)) == []
    assert swept(daily()) == [(RECORD, old.run_id, None)]
