"""`lakehouse backfill --as-of`: each date with the model and the input as they were then, or refused by name."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse import pipeline
from lakehouse.config.systems.snowflake import SnowflakeSource
from lakehouse.connectors import delta
from lakehouse.errors import ConfigError
from lakehouse.operations import backfill
from lakehouse.operations.as_of import Event, as_of, held_at, moment_of
from lakehouse.operations.backfill import Asked
from lakehouse.operations.rollback import rollback
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.sources import snowflake
from lakehouse.storage import locate
from tests.command import run
from tests.conftest import opened, read, write

DAYS = [f"2026-01-0{number}" for number in range(1, 7)]


def at(day, hour=12):
    return datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour)


def features(value, days=DAYS[:4], when=None):
    """All days' rows have this value from then on."""
    write(
        "lake/features",
        pa.table({"id": list(range(len(days))), "a": [value] * len(days), "day": days}),
        mode="overwrite",
    )
    moment = (when or at(DAYS[0])).timestamp()
    os.utime(f"lake/features/_delta_log/{opened('lake/features').version():020d}.json", (moment, moment))


def score_at(job, moment):
    """A run that began at a moment of the past."""
    return pipeline.score(job, pipeline.Request("local", moment, pipeline.new_run_id()))


def scores(table="lake/scores"):
    return {str(row["score_date"]): (round(row["p"], 9), row["_model_version"]) for row in read(table).to_pylist()}


ASKED = Asked("conf/scores.yaml", engine="local", as_of=True)


def test_each_date_has_the_model_and_the_input_of_its_end(versions, job_of):
    uri = versions(10)
    features(1.0, when=at(DAYS[0]))
    score_at(job_of(uri, DAYS[0]), at(DAYS[0], 13))  # champion is version 1
    score_at(job_of(uri, DAYS[1]), at(DAYS[1], 26))  # and still is, after the second day's end
    features(2.0, when=at(DAYS[1]))
    features(3.0, when=at(DAYS[2]))
    versions(100)
    score_at(job_of(uri, DAYS[2]), at(DAYS[2], 23))  # version 2 since some time of the third day
    features(4.0, when=at(DAYS[4]))
    found = backfill.backfill(ASKED, DAYS[:4])
    assert [(one.date, one.status) for one in found] == [
        (DAYS[0], "unchanged"), (DAYS[1], "published"), (DAYS[2], "unchanged"), (DAYS[3], "published"),
    ]  # fmt: skip
    assert scores() == {DAYS[0]: (10, "1"), DAYS[1]: (20, "1"), DAYS[2]: (300, "2"), DAYS[3]: (300, "2")}
    assert [one.status for one in backfill.backfill(ASKED, DAYS[:4])] == ["unchanged"] * 4
    records = {r["run_id"]: r for r in ledger.runs(naming.state_of(job_of(uri)), "scores")}
    assert {r["date"]: r["as_of"] for r in records.values() if r["as_of"]} == {
        DAYS[1]: "2026-01-03T00:00:00+00:00", DAYS[3]: "2026-01-05T00:00:00+00:00",
    }  # fmt: skip
    assert {r["alias"] for r in records.values() if not r["as_of"]} == {"champion"}
    assert {r["alias"] for r in records.values() if r["as_of"]} == {None}  # it is no witness of what the alias names
    assert "2026-01-05T00:00:00+00:00" in str(opened("lake/scores").history(1))


def test_dates_of_which_it_is_not_known_are_refused_by_name_and_others_go_on(versions, job_of):
    uri = versions(10)
    features(1.0, when=at(DAYS[0]))
    features(2.0, when=at(DAYS[2]))
    score_at(job_of(uri, DAYS[1]), at(DAYS[1], 13))
    score_at(job_of(uri, DAYS[2]), at(DAYS[2], 13))
    versions(100)
    score_at(job_of(uri, DAYS[3]), at(DAYS[3], 13))  # it moved on the third or the fourth day
    today = str(datetime.now(UTC).date())
    found = backfill.backfill(ASKED, [DAYS[0], DAYS[1], DAYS[2], DAYS[3], today], keep_going=True)
    assert [(one.status, one.code) for one in found] == [
        ("failed", 2), ("published", 0), ("failed", 2), ("unchanged", 0), ("not_ready", 6),
    ]  # fmt: skip
    assert "@champion as of 2026-01-02 00:00:00 UTC isn't known: no run had looked it up by then" in found[0].message
    assert "give it to the version that had the alias, such as 2026-01-02T03:04:05Z" in found[0].message
    assert all("the tag lakehouse.alias.champion.since" in found[number].message for number in (0, 2))
    assert "version 1 at 2026-01-03 13:00:00 UTC (run " in found[2].message
    assert "version 2 at 2026-01-04 13:00:00 UTC (run " in found[2].message
    assert f"{today}: as of " in found[4].message
    assert [one.status for one in backfill.backfill(ASKED, DAYS[:3])] == ["failed", "not run", "not run"]


def test_hours_after_the_dates_end(versions, job_of):
    """A job that runs in the morning finds what arrived in the night."""
    uri = versions(10)
    features(0.0, days=["none"], when=at(DAYS[0]))
    features(1.0, when=at(DAYS[1], 2))
    score_at(job_of(uri, DAYS[0]), at(DAYS[0], 23))
    (found,) = backfill.backfill(ASKED, DAYS[:1])
    assert (found.status, found.code) == ("not_ready", 6)  # no rows were there
    later = Asked("conf/scores.yaml", engine="local", as_of=True, hours_after=6)
    (found,) = backfill.backfill(later, DAYS[:1])
    assert (found.status, found.rows_scored) == ("unchanged", 0)  # this is what was scored, and is found
    with pytest.raises(ConfigError, match="--hours-after: only with --as-of"):
        backfill.backfill(Asked("conf/scores.yaml", engine="local", hours_after=6), DAYS[:1])


def then(job, day=DAYS[1]):
    return as_of(job, day, 0, ledger.now())


def test_a_tag_of_a_version_tells_when_the_alias_moved(versions, job_of, tracking_uri):
    uri = versions(10)
    versions(100)
    features(1.0, when=at(DAYS[0]))
    client, name = mlflow.MlflowClient(tracking_uri), uri.removeprefix("models:/").partition("@")[0]
    made = datetime.fromtimestamp(int(client.get_model_version(name, "2").creation_timestamp) / 1000, UTC)
    client.set_model_version_tag(name, "2", "lakehouse.alias.champion.since", "2026-01-02")
    with pytest.raises(ConfigError, match=r"v2: tag '2026-01-02' lies before .* when the version was registered"):
        then(job_of(uri))
    client.set_model_version_tag(name, "2", "lakehouse.alias.champion.since", "last week")
    with pytest.raises(ConfigError, match=r"v2: tag 'last week' is no time: write one in ISO 8601"):
        then(job_of(uri))
    client.set_model_version_tag(name, "2", "lakehouse.alias.champion.since", made.isoformat())
    score_at(job_of(uri.replace("@champion", "/1")), at(DAYS[0]))  # this one looked no alias up
    with pytest.raises(ConfigError, match="isn't known: no run had looked it up by then"):
        then(job_of(uri))
    told = models_alias(job_of(uri))
    assert told.since == ((made, "2"),)
    assert (
        held_at([Event(at(DAYS[0]), "1", "run"), Event(*told.since[0], "tag", moved=True)], at(DAYS[5]), "m@a") == "1"
    )


def models_alias(job):
    from lakehouse import models

    return models.alias_now(job.model)


def seen(day, version):
    return Event(at(day), version, "run")


def moved(day, version):
    return Event(at(day), version, "tag", moved=True)


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([seen(DAYS[0], "1"), seen(DAYS[4], "1")], "1"),
        ([seen(DAYS[0], "1"), seen(DAYS[4], "2")], None),
        ([seen(DAYS[0], "1"), moved(DAYS[3], "2"), seen(DAYS[4], "2")], "1"),
        ([seen(DAYS[0], "1"), moved(DAYS[1], "2"), seen(DAYS[4], "2")], "2"),
        ([moved(DAYS[1], "2"), seen(DAYS[4], "2")], "2"),
        ([moved(DAYS[1], "2"), moved(DAYS[4], "3")], "2"),
        ([moved(DAYS[1], "2"), seen(DAYS[4], "3")], None),
        ([seen(DAYS[0], "2"), moved(DAYS[4], "2")], None),  # it must have been another one before
        ([seen(DAYS[3], "1"), seen(DAYS[4], "1")], None),
        ([seen(DAYS[4], "1"), seen(DAYS[0], "1")], "1"),
    ],
)
def test_what_an_alias_named(events, found):
    """At the end of the third day."""
    if found is not None:
        assert held_at(events, moment_of(DAYS[2], 0), "m@a") == found
        return
    with pytest.raises(ConfigError, match="m@a as of 2026-01-04 00:00:00 UTC isn't known"):
        held_at(events, moment_of(DAYS[2], 0), "m@a")


def test_what_the_inputs_log_does_not_tell_is_refused(versions, job_of):
    uri = versions(10)
    job = job_of(uri.replace("@champion", "/1"))
    features(1.0, when=at(DAYS[2]))
    with pytest.raises(ConfigError, match=r"lake/features: its first version is of 2026-01-03 12:00:00 UTC"):
        then(job, DAYS[1])
    assert then(job, DAYS[2]).job.source.version == 0
    features(2.0, when=at(DAYS[3]))
    features(3.0, when=at(DAYS[4]))
    opened("lake/features").create_checkpoint()
    Path("lake/features/_delta_log/00000000000000000000.json").unlink()
    with pytest.raises(ConfigError, match=r"its log begins with version 1, which is of 2026-01-04"):
        then(job, DAYS[2])
    Path("lake/features/_delta_log/00000000000000000001.json").unlink()
    assert then(job, DAYS[4]).job.source.version == 2


def test_files_that_vacuum_took_are_named(versions, job_of):
    job = job_of(versions(10).replace("@champion", "/1"))
    features(1.0, when=at(DAYS[0]))
    features(2.0, when=at(DAYS[4]))
    assert then(job).job.source.version == 0
    opened("lake/features").vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(ConfigError, match=r"1 of 1 files that version 0 has for it are gone, such as .* \(VACUUM\)"):
        then(job)


def test_what_keeps_no_history_is_refused(versions, job_of, register):
    uri = versions(10)
    features(1.0)
    Path("lake/files").mkdir(parents=True)
    pq.write_table(pa.table({"id": [1], "a": [1.0]}), "lake/files/one.parquet")
    pinned = uri.replace("@champion", "/1")
    for sections, said in (
        ({"source": {"type": "parquet", "table": "lake/files"}}, "a folder of Parquet files keeps no history"),
        ({"source": {"version": 0}}, "source.version: the job reads one version whatever the date"),
        ({"model": {"uri": "models:/m_{a}@champion", "by": "a"}}, "model.by: .* no --as-of"),
        ({"model": {"challengers": [pinned]}}, "model.challengers: .* leave them out for --as-of"),
        ({"model": {"uri": "some/folder"}}, "some/folder is a folder, whose former content isn't known"),
    ):
        with pytest.raises(ConfigError, match=said):
            then(job_of(pinned, **sections))


def test_snowflake_goes_back_by_time_travel_but_not_in_a_query():
    table = SnowflakeSource(type="snowflake", connection="c", table="d.s.t")
    assert snowflake.as_of(table, moment_of(DAYS[0], 0)).timestamp == "2026-01-01T23:59:59.999999+00:00"
    with pytest.raises(ConfigError, match="what a query would have given then isn't known"):
        snowflake.as_of(SnowflakeSource(type="snowflake", connection="c", query="SELECT 1"), moment_of(DAYS[0], 0))


def test_a_version_that_has_other_bytes_now_is_refused(versions, job_of):
    uri = versions(10)
    features(1.0)
    result = score_at(job_of(uri), at(DAYS[0], 13))
    known = then(job_of(uri), DAYS[0])
    assert known.digest == result.model["digest"]
    request = pipeline.Request("local", ledger.now(), pipeline.new_run_id(), as_of=known.moment, digest="0" * 64)
    with pytest.raises(ConfigError, match=r"has other bytes .* what it was then isn't there any more"):
        pipeline.score(known.job, request)


def test_a_rollback_looked_no_alias_up(versions, job_of):
    uri = versions(10)
    features(1.0)
    score_at(job_of(uri), at(DAYS[0], 13))
    versions(100)
    score_at(job_of(uri), at(DAYS[2], 13))
    rollback(job_of(uri), pipeline.Request("local", at(DAYS[4], 13), pipeline.new_run_id()))
    assert then(job_of(uri), DAYS[4]).job.model.uri.endswith("/2")


def test_the_last_run_as_of_then_is_not_whom_the_next_one_is_held_for(versions, job_of):
    uri = versions(10)
    hold = {"publish": {"hold": "when_model_changed"}}
    features(1.0)
    score_at(job_of(uri, DAYS[0], **hold), at(DAYS[0], 13))
    score_at(job_of(uri, DAYS[1]), at(DAYS[1], 26))
    versions(100)
    score_at(job_of(uri, DAYS[2]), at(DAYS[3], 13))
    features(2.0, when=at(DAYS[1]))
    job_of(uri)  # without a hold
    assert [one.status for one in backfill.backfill(ASKED, DAYS[1:2])] == ["published"]
    assert score_at(job_of(uri, DAYS[3], **hold), ledger.now()).status == "published"


def test_the_command(versions, job_of, capfd):
    uri = versions(10)
    features(1.0)
    score_at(job_of(uri, DAYS[0]), at(DAYS[0], 13))
    job_of(uri)
    words = ("backfill", "conf/scores.yaml", "--from", DAYS[1], "--to", DAYS[1], "--engine", "local", "--as-of")
    done = run(capfd, *words)
    assert (done.code, done.out) == (0, "1 date: 1 published\n")
    listed = run(capfd, "runs", "conf/scores.yaml").out.splitlines()
    assert "published, as of then" in listed[1]
    assert "as of" not in listed[2]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("own_times", [False, True])
def test_sparks_own_time_travel_finds_the_same_versions(spark, workspace, own_times):
    """By the files' times, and by those that commits keep themselves."""
    place = workspace / "lake/features"
    features_of = "true" if own_times else "false"
    spark.sql(
        f"CREATE TABLE delta.`{place}` (a INT) USING delta "
        f"TBLPROPERTIES (delta.enableInCommitTimestamps = {features_of}, delta.logRetentionDuration = '90000 days', "
        "delta.deletedFileRetentionDuration = '90000 days')"
    )
    for number in range(4):
        spark.sql(f"INSERT INTO delta.`{place}` VALUES ({number})")
    if not own_times:  # one of them older than the one before it
        for version, day in enumerate((DAYS[0], DAYS[1], DAYS[0], DAYS[2], DAYS[4])):
            moment = at(day).timestamp()
            os.utime(place / f"_delta_log/{version:020d}.json", (moment, moment))
    history = spark.sql(f"DESCRIBE HISTORY delta.`{place}`").collect()
    times = sorted(row["timestamp"].timestamp() for row in history)
    for moment in [t + d for t in times for d in (-0.0004, 0.0004)][1:]:
        when = datetime.fromtimestamp(moment, UTC)
        if when >= datetime.fromtimestamp(times[-1], UTC):
            continue
        theirs = spark.read.format("delta").option("timestampAsOf", when.isoformat()).load(str(place)).count()
        assert delta.version_before(locate(str(place)), when) == theirs


@pytest.mark.parametrize(("day", "hours"), [("9999-12-31", 0), ("2026-01-01", 10**8), ("2026-01-01", 10**14)])
def test_a_moment_that_no_calendar_has_is_refused(day, hours):
    with pytest.raises(ConfigError, match=f"{day} as of .* hours after its end: there is no such time"):
        moment_of(day, hours)
