"""`lakehouse register athena`, on moto's Glue and Athena: what is put there, again, after changes, beside others' things."""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from lakehouse.connectors import athena
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.integrations.athena import register as registering
from lakehouse.storage import locate, write_durably
from tests import s3_server as s3_server_py
from tests.command import run
from tests.conftest import score, version, write

CONF = "conf/scores.yaml"
TABLES, VIEWS = ["scores", "scores_runs"], ["scores_current", "scores_history", "scores_changes", "scores_ledger"]
ASIDE = ["scores_quarantine", "scores_quarantine_reasons"]


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LogisticRegression().fit(x, (x["a"] > 2).astype(int)), x)


def features(rows: int = 20, keyless: int = 0) -> pa.Table:
    ids = np.arange(rows)
    return pa.table({"id": pa.array(ids, mask=ids < keyless), "a": ids * 0.1, "country": ["x"] * rows})


@pytest.fixture
def daily(make_job, uri, s3):
    """A job with its tables in a folder on S3."""

    def make(lake: str, date: str = "2026-01-02", **sections: Any) -> Any:
        given = {
            "model": {"method": "predict_proba"}, "predictions": {"p": {"class": 1}},
            "slice": {"score_date": "{date}"}, "checks": {"quarantine": {"max_fraction": 0.5}},
        }  # fmt: skip
        return make_job(uri, date=date, lake=lake, **{**given, **sections})

    return make


_scored: list[str] = []


@pytest.fixture
def job(daily):
    """A job of which one run was published; its tables on S3 are those of all tests here that leave them as they are."""
    if not _scored:
        lake = f"s3://{s3_server_py.BUCKET}/{uuid.uuid4().hex}"
        write(f"{lake}/features", features())
        score(daily(lake))
        _scored.append(lake)
    return daily(_scored[0])


@pytest.fixture
def glue(s3) -> Any:
    return boto3.client("glue", region_name="us-east-1")


@pytest.fixture
def database(glue) -> str:
    """A database of this test's own in Glue."""
    name = f"d{uuid.uuid4().hex}"
    glue.create_database(DatabaseInput={"Name": name})
    return name


def entries(glue: Any, database: str) -> dict[str, Any]:
    return {table["Name"]: table for table in glue.get_tables(DatabaseName=database)["TableList"]}


@pytest.fixture
def catalog(database) -> athena.Catalog:
    return athena.open_catalog(database, "primary", "s3://lake/results")


def actions(registered: Any) -> dict[str, str]:
    return {change.name: change.action for change in registered.changes}


def columns(entry: Any) -> list[tuple[str, str]]:
    return [(column["Name"], column["Type"]) for column in entry["StorageDescriptor"]["Columns"]]


def test_tables_are_in_glue_and_views_in_athena(job, glue, database, capfd):
    done = run(
        capfd, "register", "athena", CONF, "--database", database, "--output", "s3://lake/results",
        "--set", "slice={score_date: 2000-01-01}",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:3] == [
        f"Glue's database {database}", "  created    table  scores", "  created    table  scores_runs"
    ]  # fmt: skip
    found = entries(glue, database)
    assert sorted(found) == sorted([*TABLES, *VIEWS])
    scored, at = found["scores"], job.sinks[0].table
    assert columns(scored)[:2] == [("id", "bigint"), ("p", "double")]
    assert ("_scored_at", "timestamp") in columns(scored)
    assert scored["PartitionKeys"] == [{"Name": "score_date", "Type": "date"}]
    assert scored["StorageDescriptor"]["Location"] == f"{at}/"
    assert (scored["Parameters"]["table_type"], scored["Parameters"]["EXTERNAL"]) == ("DELTA", "TRUE")
    assert found["scores_runs"]["StorageDescriptor"]["Location"] == f"{at}_state/runs/"
    assert {found[view]["TableType"] for view in VIEWS} == {"VIRTUAL_VIEW"}


def test_a_second_time_nothing_is_changed(job, catalog, glue, database):
    assert set(actions(registering(job, catalog)).values()) == {"created", "left out"}
    before = entries(glue, database)
    again = registering(job, catalog)
    assert actions(again) == dict.fromkeys([*TABLES, *VIEWS], "unchanged") | dict.fromkeys(ASIDE, "left out")
    assert entries(glue, database) == before


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(job, glue, database, capfd):
    given = ["register", "athena", CONF, "--database", database, "--output", "s3://lake/results", "--dry-run"]
    done = run(capfd, *given, "--json")
    told = {change["name"]: change["action"] for change in json.loads(done.out)["changes"]}
    assert told == dict.fromkeys([*TABLES, *VIEWS], "created") | dict.fromkeys(ASIDE, "left out")
    assert entries(glue, database) == {}
    assert "which a run without --dry-run would leave so:" in run(capfd, *given).out


def test_a_changed_schema_and_a_table_that_is_there_by_now_are_taken_up(daily, bucket, catalog, glue, database):
    write(f"{bucket}/features", features())
    score(daily(bucket))
    registering(daily(bucket), catalog)
    write(f"{bucket}/features", features(20, keyless=2), mode="overwrite")
    changed = daily(bucket, keep=["country"])
    score(changed)
    told = {change.name: change for change in registering(changed, catalog).changes}
    assert told["scores"].action == "updated"
    assert told["scores"].why == "+country string"
    assert {told[view].action for view in VIEWS[:3]} == {"updated"}
    assert {told[name].action for name in ["scores_runs", "scores_ledger"]} == {"unchanged"}
    assert {told[name].action for name in ASIDE} == {"created"}
    assert ("country", "string") in columns(entries(glue, database)["scores"])
    assert set(actions(registering(changed, catalog)).values()) == {"unchanged"}


def test_what_others_have_noted_of_a_table_stays(job, catalog, glue, database):
    registering(job, catalog)
    entry = entries(glue, database)["scores"]
    parameters = {**entry["Parameters"], "owner": "us"}
    parameters.pop("table_type")
    entry["StorageDescriptor"]["Columns"][0]["Comment"] = "whose"
    given = {"Name": "scores", "Description": "ours", "StorageDescriptor": entry["StorageDescriptor"],
             "PartitionKeys": entry["PartitionKeys"], "Parameters": parameters}  # fmt: skip
    glue.update_table(DatabaseName=database, TableInput=given)
    assert actions(registering(job, catalog))["scores"] == "updated"
    entry = entries(glue, database)["scores"]
    assert (entry["Description"], entry["Parameters"]["owner"]) == ("ours", "us")
    assert entry["Parameters"]["table_type"] == "DELTA"
    assert entry["StorageDescriptor"]["Columns"][0] == {"Name": "id", "Type": "bigint", "Comment": "whose"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"Name": "scores", "StorageDescriptor": {"Location": "s3://lake/other/"}}, "scores lies at s3://lake/other/, not"),
        ({"Name": "scores", "StorageDescriptor": {}}, "scores lies at no place"),
        ({"Name": "scores_runs", "TableType": "VIRTUAL_VIEW"}, "scores_runs is a view"),
        ({"Name": "scores_current", "TableType": "VIRTUAL_VIEW"}, "scores_current was not made by this job"),
        ({"Name": "scores_changes", "StorageDescriptor": {"Location": "s3://x/"}}, "scores_changes was not made by this"),
    ],
)  # fmt: skip
def test_what_is_somebody_elses_is_named_and_nothing_is_changed(job, catalog, glue, database, entry, said):
    glue.create_table(DatabaseName=database, TableInput=entry)
    with pytest.raises(ConfigError, match=rf"Glue's database {database} has what isn't this job's: {said}") as refused:
        registering(job, catalog)
    assert "Name another --database" in str(refused.value)
    assert list(entries(glue, database)) == [entry["Name"]]


def test_a_table_that_is_there_with_this_place_is_taken(job, catalog, glue, database):
    """As `lakehouse sql athena | …` leaves it, or a crawler."""
    at = job.sinks[0].table.replace("s3://", "s3a://")
    glue.create_table(DatabaseName=database, TableInput={"Name": "scores", "StorageDescriptor": {"Location": at}})
    assert actions(registering(job, catalog))["scores"] == "updated"


def test_a_table_of_another_job_is_refused_by_its_name(job, catalog, make_job, uri):
    registering(job, catalog)
    sections = {"slice": {"score_date": "2000-01-01"}, "predictions": {"p": 0}}
    other = make_job(uri, lake=_scored[0], **sections).model_copy(update={"job": "other"})
    with pytest.raises(ConfigError, match="scores was registered by the job scores"):
        registering(other, catalog)


def test_what_was_stopped_half_way_is_finished(job, catalog, glue, database, monkeypatch):
    execute = athena.execute

    def stop(*given: Any) -> None:
        if given[2].endswith("scores_changes"):
            raise Unavailable("the line is cut")
        execute(*given)

    with monkeypatch.context() as cut:
        cut.setattr(athena, "execute", stop)
        with pytest.raises(Unavailable):
            registering(job, catalog)
    assert "scores_history" in entries(glue, database)
    told = actions(registering(job, catalog))
    assert (told["scores_history"], told["scores_changes"]) == ("updated", "created")
    assert actions(registering(job, catalog))["scores_history"] == "unchanged"


def test_a_view_that_was_changed_or_dropped_by_hand_is_made_again(job, catalog, glue, database):
    registering(job, catalog)
    before = entries(glue, database)
    athena.execute(catalog, 'CREATE OR REPLACE VIEW scores_current AS SELECT "id" FROM "scores"', "by hand")
    glue.delete_table(DatabaseName=database, Name="scores_ledger")
    told = {change.name: (change.action, change.why) for change in registering(job, catalog).changes}
    assert told["scores_current"] == ("updated", "somebody had changed it")
    assert told["scores_ledger"] == ("created", "")
    after = entries(glue, database)
    assert after["scores_current"]["ViewOriginalText"] == before["scores_current"]["ViewOriginalText"]


def test_a_registration_by_a_newer_program_is_left_alone(job, catalog, glue, database):
    registering(job, catalog)
    entry = entries(glue, database)["scores"]
    kept = {**json.loads(entry["Parameters"]["lakehouse.registration"]), "format": 99}
    given = {"Name": "scores", "StorageDescriptor": entry["StorageDescriptor"],
             "Parameters": {**entry["Parameters"], "lakehouse.registration": json.dumps(kept)}}  # fmt: skip
    glue.update_table(DatabaseName=database, TableInput=given)
    with pytest.raises(ConfigError, match=rf"Glue's table {database}.scores holds a registration of format 99"):
        registering(job, catalog)


def test_what_athena_refuses_is_said(catalog):
    with pytest.raises(
        ConfigError, match=r"the view v: Athena refuses it \(query .*\): .*Table .*nothing does not exist"
    ):
        athena.execute(catalog, "CREATE OR REPLACE VIEW v AS SELECT x FROM nothing", "the view v")


def test_features_that_athena_is_not_documented_to_read_are_said(daily, bucket, catalog):
    protocol = {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["v2Checkpoint", "deletionVectors"],
        "writerFeatures": ["v2Checkpoint", "deletionVectors", "domainMetadata"],
    }  # fmt: skip
    job = daily(bucket)
    write(f"{bucket}/features", features())
    score(job)
    place = locate(f"{bucket}/scores").join("_delta_log", f"{version(f'{bucket}/scores') + 1:020}.json")
    write_durably(place, json.dumps({"protocol": protocol}).encode())
    notes = registering(job, catalog, dry_run=True).notes
    assert notes == ("scores: Athena is not documented to read tables with v2Checkpoint: try a query",)


def test_tables_elsewhere_than_on_s3_are_refused(daily, catalog):
    with pytest.raises(ConfigError, match="Athena reads tables on S3 only"):
        registering(daily("lake"), catalog)


def test_a_job_that_never_ran_is_told_so(daily, bucket, catalog):
    with pytest.raises(ConfigError, match=f"{bucket}/scores: there is no table yet: run the job once"):
        registering(daily(bucket), catalog)


def test_a_place_that_is_not_there_is_named(s3, database, monkeypatch):
    with pytest.raises(ConfigError, match=rf"Glue has no database '{database}x', did you mean '{database}'\?"):
        athena.open_catalog(f"{database}x", "primary")
    with pytest.raises(ConfigError, match="Athena has no workgroup 'none'"):
        athena.open_catalog(database, "none")
    with pytest.raises(ConfigError, match=r"workgroup primary says nowhere where results are written: .*--output"):
        athena.open_catalog(database, "primary")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(athena, "ATTEMPTS", 1)
    with pytest.raises(Unavailable, match=rf"Glue's database {database}: .*127.0.0.1:9"):
        athena.open_catalog(database, "primary")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"AWS: You must specify a region\.; set AWS_REGION"):
        athena.open_catalog(database, "primary")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigError, match=r"Athena needs boto3: pip install 'lakehouse\[athena\]'"):
        athena.open_catalog(database, "primary")


def test_types_as_glue_spells_them():
    pair = pa.struct([("A", pa.int32()), ("b", pa.list_(pa.string()))])
    kinds = {
        "I": pa.int64(), "s": pa.int16(), "t": pa.int8(), "f": pa.float32(), "d": pa.decimal128(38, 4),
        "b": pa.binary(), "z": pa.timestamp("us", "UTC"), "n": pa.timestamp("us"), "m": pa.map_(pa.string(), pair),
        "day": pa.date32(), "yes": pa.bool_(),
    }  # fmt: skip
    entry = athena.delta_table("t", "s3://b/t", pa.schema(kinds.items()), ("day",))
    assert columns(entry) == [
        ("i", "bigint"), ("s", "smallint"), ("t", "tinyint"), ("f", "float"), ("d", "decimal(38,4)"), ("b", "binary"),
        ("z", "timestamp"), ("n", "timestamp"), ("m", "map<string,struct<a:int,b:array<string>>>"), ("yes", "boolean"),
    ]  # fmt: skip
    assert entry["PartitionKeys"] == [{"Name": "day", "Type": "date"}]
    with pytest.raises(ConfigError, match=r"column 'x' is of type duration\[us\], which Athena can't read"):
        athena.delta_table("t", "s3://b/t", pa.schema([("x", pa.duration("us"))]), ())
