"""Lineage events as the client writes them: each keeps to the classes that OpenLineage makes of its specification.

The specification's JSON Schema itself comes with no package: the Python client (wheel, and sdist up to 1.39), Airflow's
provider, openlineage-integration-common and the jar of openlineage-java have only what was generated from it, Go's
modules fetch it when they are built, and npm has no client of OpenLineage's.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import types
import typing
from enum import Enum

import attr
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from openlineage.client import event_v2, generated
from sklearn.linear_model import LinearRegression

from lakehouse.errors import Blocked, ConfigError, NotReady
from lakehouse.observe import openlineage
from lakehouse.operations import review
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.runs import ledger
from tests.conftest import score, write
from tests.observe.receiver import receiving

DAY, BAD, EMPTY = "2026-01-02", "2026-01-03", "2026-01-09"
MODULES = [importlib.import_module(f"{generated.__name__}.{m.name}") for m in pkgutil.iter_modules(generated.__path__)]
CLASSES = {kind for module in MODULES for kind in vars(module).values() if isinstance(kind, type) and attr.has(kind)}
FACETS = {kind._get_schema(): kind for kind in CLASSES if hasattr(kind, "_get_schema")}
"""By the URL of a part of the specification the class that the client has for it."""


def require(value, hint, at="event"):
    """Hold a value of JSON against a class or type of the client's: keys, types, and what its validators ask for."""
    if isinstance(value, dict) and "_schemaURL" in value:
        hint = FACETS[value["_schemaURL"]]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return
        [hint] = [one for one in typing.get_args(hint) if one is not type(None)]
    if attr.has(hint):
        hints = typing.get_type_hints(hint)
        known = {field.name: field for field in attr.fields(hint)}
        needed = {name for name, field in known.items() if field.default is attr.NOTHING}
        assert set(value) <= set(known), f"{at}: unknown to {hint.__name__}"
        assert needed <= set(value), f"{at}: {hint.__name__} needs more"
        for name, part in value.items():
            require(part, hints[name], f"{at}.{name}")
        hint(**{known[name].alias: part for name, part in value.items() if known[name].init})
    elif typing.get_origin(hint) in (list, dict):
        assert isinstance(value, typing.get_origin(hint)), at
        inner = typing.get_args(hint)[-1]
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            require(part, inner, f"{at}.{key}")
    elif isinstance(hint, type) and issubclass(hint, Enum):
        hint(value)
    elif hint is not typing.Any:
        number = hint is float and type(value) is int
        assert type(value) is hint or number, f"{at}: {value!r} is no {hint}"


@pytest.fixture(autouse=True)
def own_environment():
    """The client writes to the environment of the process."""
    before = dict(os.environ)
    yield
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
    return register(LinearRegression().fit(x, x["a"]), x)


@pytest.fixture
def daily(make_job, uri, workspace):
    n = np.arange(40)
    rows = {"id": n, "country": ["DE", "FR"] * 20, "a": np.linspace(0, 4, 40), "b": np.cos(n), "unused": n}
    write("lake/features", pa.table({**rows, "day": [DAY] * 40}))
    write("lake/features", pa.table({**rows, "id": pa.array(n, mask=n == 0), "day": [BAD] * 40}))
    suite = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "max_value": 3.9},
             "severity": "warning"}  # fmt: skip
    (workspace / "suite.json").write_text(json.dumps({"expectations": [suite]}))

    def make(day=DAY, **sections):
        return make_job(
            uri, date=day, source={"where": "day = '{date}'"}, slice={"score_date": "{date}"}, keep=["country"],
            predictions={"p": 0}, checks={"features": "suite.json"}, **sections,
        )  # fmt: skip

    return make


@pytest.fixture
def events(monkeypatch, workspace):
    """All events so far, valid, as the file transport has written them."""
    file = workspace / "events.json"
    for name, value in {"TYPE": "file", "LOG_FILE_PATH": str(file), "APPEND": "true"}.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)

    def read():
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        for event in found:
            require(event, event_v2.RunEvent)
        return found

    return read


def kinds(events):
    return [event["eventType"] for event in events]


def test_a_run_starts_runs_and_is_complete(daily, events, workspace):
    result = score(daily())
    start, running, complete = said = events()
    assert kinds(said) == ["START", "RUNNING", "COMPLETE"]
    assert {event["run"]["runId"] for event in said} == {result.run_id}
    assert {(e["job"]["namespace"], e["job"]["name"]) for e in said} == {("default", "scores")}
    assert start["run"]["facets"]["nominalTime"]["nominalStartTime"] == f"{DAY}T00:00:00+00:00"
    assert [o["name"] for o in start["outputs"]] == [str(workspace / "lake" / "scores")]
    [source], [scores] = complete["inputs"], complete["outputs"]
    assert (source["namespace"], source["name"]) == ("file", str(workspace / "lake" / "features"))
    assert (source["facets"]["version"]["datasetVersion"], running["inputs"][0]["name"]) == ("1", source["name"])
    assert (scores["facets"]["version"]["datasetVersion"]) == str(result.sinks[0]["version"])
    assert [f["name"] for f in scores["facets"]["schema"]["fields"]][:3] == ["id", "country", "p"]


def test_columns_are_traced_to_those_they_are_made_of(daily, events):
    score(daily())
    facet = events()[-1]["outputs"][0]["facets"]["columnLineage"]
    made = {name: [one["field"] for one in field["inputFields"]] for name, field in facet["fields"].items()}
    assert made == {"id": ["id"], "country": ["country"], "p": ["a", "b"]}
    how = {name: f["inputFields"][0]["transformations"][0]["subtype"] for name, f in facet["fields"].items()}
    assert how == {"id": "IDENTITY", "country": "IDENTITY", "p": "TRANSFORMATION"}
    assert [one["field"] for one in facet["dataset"]] == ["day"]


def test_statistics_and_checks_are_those_of_the_run(daily, events):
    score(daily())
    complete = events()[-1]
    read, written = complete["inputs"][0]["inputFacets"], complete["outputs"][0]["outputFacets"]["outputStatistics"]
    assert (read["inputStatistics"]["rowCount"], read["inputStatistics"]["fileCount"]) == (40, 1)
    nulls = {n: c["nullCount"] for n, c in read["dataQualityMetrics"]["columnMetrics"].items()}
    assert (read["dataQualityMetrics"]["rowCount"], nulls) == (40, {"a": 0, "b": 0})
    assert (written["rowCount"], written["fileCount"], written["size"] > 0) == (40, 1, True)
    [rule] = [one for one in read["dataQualityAssertions"]["assertions"] if one["column"] == "a"]
    assert (rule["assertion"], rule["success"]) == ("expect_column_values_to_be_between", False)
    assert (rule["severity"], rule["actual"]) == ("warn", "1 of 40 rows break it")


def test_a_blocked_run_fails_with_its_reason_but_no_row(daily, events):
    with pytest.raises(Blocked):
        score(daily(BAD))
    last = events()[-1]
    said = last["run"]["facets"]["errorMessage"]["message"]
    assert (last["eventType"], "went to quarantine" in said, "id=" in json.dumps(last)) == ("FAIL", True, False)
    tables = {o["name"].rpartition("/")[2]: o.get("outputFacets", {}) for o in last["outputs"]}
    assert tables["scores_quarantine"]["outputStatistics"]["rowCount"] == 1


def test_errors_end_a_run_too(daily, events):
    with pytest.raises(NotReady):
        score(daily(EMPTY))
    with pytest.raises(ConfigError):
        score(daily(keys=["nothing"]))
    assert kinds(events()) == ["START", "RUNNING", "ABORT", "START", "FAIL"]
    assert "source.min_rows" in events()[2]["run"]["facets"]["errorMessage"]["message"]


def test_a_held_run_is_complete_when_it_is_published(daily, events):
    held = score(daily(), hold=True)
    _, waits = review.find(daily, held.run_id)
    review.publish(daily(), waits, Request("local", ledger.now(), held.run_id))
    said = events()
    assert kinds(said) == ["START", "RUNNING", "RUNNING", "COMPLETE"]
    assert {event["run"]["runId"] for event in said} == {held.run_id}
    assert "outputFacets" not in said[2]["outputs"][0] or said[2]["outputs"][0]["outputFacets"] == {}
    assert said[3]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 40


def test_what_a_person_takes_back_ends_runs_and_leaves_the_jobs_lineage(daily, events):
    score(daily())
    score(daily(), rescore=True)
    held = score(daily(), rescore=True, hold=True)
    before = len(events())
    review.discard(daily(), review.find(daily, held.run_id)[1], Request("local", ledger.now(), held.run_id))
    back = rollback(daily(), Request("local", ledger.now(), new_run_id()))
    discarded, *said = events()[before:]
    assert (discarded["eventType"], discarded["run"]["runId"]) == ("ABORT", held.run_id)
    assert kinds(said) == ["START", "COMPLETE"]
    assert {(e["run"]["runId"], e["job"]["name"]) for e in said} == {(back.run_id, "scores.rollback")}
    [scores] = said[1]["outputs"]
    assert scores["facets"]["version"]["datasetVersion"] == str(back.sinks[0]["version"])
    assert scores["outputFacets"]["outputStatistics"]["rowCount"] == 40
    assert said[1]["inputs"] == []


@pytest.mark.long
def test_it_is_part_of_the_run_that_began_it(daily, events, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", "airflow/nightly.score/3f5e83fa-3480-44ff-99c5-ff943904e5e8")
    score(daily())
    parent = events()[0]["run"]["facets"]["parent"]
    assert (parent["job"]["name"], parent["run"]["runId"]) == ("nightly.score", "3f5e83fa-3480-44ff-99c5-ff943904e5e8")


@pytest.mark.long
def test_it_goes_where_the_clients_own_variable_says(daily, monkeypatch):
    with receiving() as server:
        monkeypatch.setenv("OPENLINEAGE_URL", server.url)
        score(daily())
    assert [path for path, _ in server.came] == ["/api/v1/lineage"] * 3


@pytest.mark.long
def test_a_server_that_hangs_costs_a_warning(daily, monkeypatch):
    told = []
    with receiving() as server:
        server.hangs = True
        monkeypatch.setenv("OPENLINEAGE_URL", server.url)
        result = score(daily(), say=lambda event, values: event == "warning" and told.append(values["message"]))
    assert result.status == "published"
    assert [text.rpartition(":")[0] for text in told if "told of" in text] == [
        f"OpenLineage at {server.url} could not be told of the run"
    ]


def test_its_address_is_told_without_what_may_be_secret(monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_URL", "https://user:secret@lineage.example:5000/path?key=secret")
    assert openlineage._address() == " at https://lineage.example:5000"
    monkeypatch.delenv("OPENLINEAGE_URL")
    monkeypatch.setenv("OPENLINEAGE_CONFIG", "conf/openlineage.yml")
    assert openlineage._address() == " by conf/openlineage.yml"


@pytest.mark.long
def test_it_is_told_nothing_where_it_is_turned_off(daily, events, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    score(daily())
    assert events() == []
