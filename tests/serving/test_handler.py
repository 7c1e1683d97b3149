"""What the handler answers, with no server: the batch's own scores, reasons and lineage, and a word for all else."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
from flask import Flask
from hypothesis import strategies as st

from lakehouse import models
from lakehouse.errors import Unavailable
from lakehouse.serving import flask_app, scoring
from lakehouse.serving.access import read_keys
from lakehouse.serving.limits import Gate, Limits, Rates
from lakehouse.serving.lookup import Published
from lakehouse.serving.messages import ARROW, CSV, JSON
from lakehouse.serving.prepared import JobFile
from lakehouse.serving.server import server_for
from tests.conftest import read, turns
from tests.serving.conftest import ROWS, features


def stream(table, options=None):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def text(table):
    sink = io.BytesIO()
    arrow_csv.write_csv(table, sink)
    return sink.getvalue()


def records(table):
    return json.dumps({"records": table.to_pylist()}, default=str).encode()


def columns(table):
    return json.dumps({"columns": table.to_pydict()}, default=str).encode()


BODIES = {"records": (records, JSON), "columns": (columns, JSON), "Arrow": (stream, ARROW), "CSV": (text, CSV)}
GOOD = {"id": 1, "kind": "x", "day": "2026-01-02", "a": 0.5, "b": 0.5, "c": 0.5}


def answered(response):
    return json.loads(response.body)


def scores_in(response):
    return {row["id"]: row["p"] for row in answered(response)["scores"]}


@pytest.mark.parametrize("form", BODIES)
def test_scores_and_reasons_are_those_that_the_run_has_published(ask, place, form):
    make, kind = BODIES[form]
    response = ask(make(features()), kind)
    published = read(place.table("scores"))
    batch = dict(zip(published["id"].to_pylist(), published["p"].to_pylist(), strict=True))
    found = scores_in(response)
    assert found.keys() == batch.keys()
    assert models.alike(np.array(list(batch.values())), np.array([found[key] for key in batch])).all()
    aside = read(place.table("scores_quarantine"))
    reasons = dict(zip(aside["id"].to_pylist(), aside["_reasons"].to_pylist(), strict=True))
    assert {row["id"]: row["_reasons"] for row in answered(response)["quarantined"]} == reasons
    assert response.status == 200
    assert answered(response)["rows"] == {"read": ROWS, "scored": len(batch), "quarantined": len(reasons)}
    kept = {row["id"]: (row["kind"], row["_warnings"]) for row in answered(response)["scores"]}
    shown = zip(published["kind"].to_pylist(), published["_warnings"].to_pylist(), strict=True)
    assert kept == dict(zip(published["id"].to_pylist(), shown, strict=True))


def test_an_answer_in_arrow_has_a_row_for_each_and_the_scored_tables_columns(ask, place):
    table = features(60)
    answer = pa.ipc.open_stream(ask(stream(table), ARROW, accept=ARROW).body).read_all()
    assert answer["id"].to_pylist() == table["id"].to_pylist()
    published = read(place.table("scores"))
    assert {field.name: field.type for field in answer.schema} == {
        **{field.name: field.type for field in published.schema},
        "_reasons": answer.schema.field("_reasons").type,
    }
    aside = [number for number, why in enumerate(answer["_reasons"].to_pylist()) if why]
    assert aside == [0, 50]
    assert [answer["p"][number].as_py() for number in aside] == [None, None]


def test_the_answer_says_which_model_the_scores_are_of(ask, prepared):
    said = answered(ask([GOOD], x_request_id="request-0001"))
    lineage = said["lineage"]
    assert (lineage["_model_name"], lineage["_model_version"]) == (prepared.model["name"], prepared.model["version"])
    assert (lineage["_run_id"], lineage["_job"], lineage["_input_version"]) == ("request-0001", "likes", None)
    assert lineage["_scored_at"].endswith("Z")


def test_422_where_no_row_can_be_scored(ask):
    response = ask([{**GOOD, "a": 10.5}, {**GOOD, "id": None}])
    assert response.status == 422
    said = answered(response)
    assert said["scores"] == []
    assert [(row["_row"], row["_reasons"]) for row in said["quarantined"]] == [
        (0, [{"rule": "expect_column_values_to_be_between", "column": "a", "observed": "10.5"}]),
        (1, [{"rule": "key_not_null", "column": "id", "observed": None}]),
    ]


def test_each_score_says_which_rules_it_was_warned_by_if_any(ask):
    said = answered(ask([{**GOOD, "b": 2.5}, GOOD]))
    assert [row["_warnings"] for row in said["scores"]] == [["expect_column_values_to_be_between"], []]
    assert answered(ask([GOOD]))["scores"][0]["_warnings"] == []


def test_layout_columns_gives_lists(ask):
    said = answered(ask([GOOD, {**GOOD, "id": 2, "a": 10.5}], query={"layout": "columns"}))
    assert (said["scores"]["_row"], said["scores"]["id"], said["quarantined"]["_row"]) == ([0], [1], [1])


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", JSON, 400, "the body is not JSON"),
        (b"{", JSON, 400, "the body is not JSON"),
        (b'[{"a": NaN}]', JSON, 400, "NaN is no JSON: send null"),
        (b"[" * 100_000, JSON, 400, "nested too deeply"),
        (b'{"rows": []}', JSON, 400, 'JSON is read as {"records"'),
        (b"[]", JSON, 400, "no rows"),
        (b"[1]", JSON, 400, "row 0 is a number: each is an object of columns and values"),
        (json.dumps([GOOD, "x"]).encode(), JSON, 400, "row 1 is a text: each is an object of columns and values"),
        (b'{"records": [{"id": 1}], "columns": {}}', JSON, 400, "records and columns: send the rows as one of the two"),
        (json.dumps([{**GOOD, "a": "x"}]).encode(), JSON, 400, "row 0, column 'a': \"x\" is no double"),
        (json.dumps([GOOD, {**GOOD, "id": 1.5}]).encode(), JSON, 400, "row 1, column 'id': 1.5 is no int64"),
        (json.dumps([{**GOOD, "id": 2**70}]).encode(), JSON, 400, "column 'id'"),
        (json.dumps([GOOD]).encode().replace(b"0.5", b"1e999"), JSON, 400, "column 'a': Infinity is no double"),
        (b'[{"id": 1, "kind": "\\ud800", "a": 1, "b": 1, "c": 1}]', JSON, 400, "row 0, column 'kind'"),
        (b'[{"id": 1, "A1": 1, "b": 1, "c": 1}]', JSON, 400, "no row has the column 'a'"),
        (b'{"columns": {"id": [1], "a": [1, 2], "b": [1], "c": [1]}}', JSON, 400, "lists must be of one length"),
        (b'{"columns": {"id": 1}}', JSON, 400, "columns.id: a list of values is needed"),
        (b"id,a,b,c\n1,x,1,1\n", CSV, 400, "row 0, column 'a': \"x\" is no double"),
        (b"id,a,b,c\n1,1,1,1\n\n1.5,1,1,1\n", CSV, 400, "row 1, column 'id': \"1.5\" is no int64"),
        (b"kind,id,a,b,c\n\xff,1,1,1,1\n", CSV, 400, "row 0, column 'kind': text that is no UTF-8 is no string"),
        (b"id,a,b,c\n1,1,1,1\n1,1\n", CSV, 400, "the CSV can't be read: row 1: Expected 4 columns, got 2"),
        (b"id,a,a,c\n1,1,1,1\n", CSV, 400, "names a column twice"),
        (b"id;a;b;c\n1;1;1;1\n", CSV, 400, "one column with ';' in its name: separate columns by commas"),
        (b"a,b,c\n1,1,1\n", CSV, 400, "no row has the column 'id'"),
        (b"nonsense", ARROW, 400, "no Arrow stream"),
        (b"ARROW1\0\0" + b"\0" * 40, ARROW, 400, "it is an Arrow file: write it as a stream (pyarrow.ipc.new_stream)"),
        (b'{"records":[]}', ARROW, 400, "that can be read: its messages are broken"),
        (b"<a/>", "application/xml", 415, "is not read here"),
        (b"x" * ((16 << 20) + 1), JSON, 413, "the body has more than"),
        (json.dumps([GOOD] * 1_001).encode(), JSON, 413, "1,001 rows; at most 1,000"),
    ],
)
def test_a_body_that_cant_be_read_is_refused_in_words(ask, body, kind, status, said):
    response = ask(body, kind)
    assert response.status == status
    assert said in answered(response)["error"]


def test_an_arrow_column_of_another_type_is_refused_where_values_would_be_lost(ask):
    table = features(3)
    narrow = table.set_column(0, "id", table["id"].cast(pa.int32()))
    assert ask(stream(narrow), ARROW).status == 200
    wide = table.set_column(0, "id", table["id"].cast(pa.float64()))
    response = ask(stream(wide), ARROW)
    assert response.status == 400
    assert "column 'id' comes as double, the job needs int64" in answered(response)["error"]


def test_arrow_that_would_expand_is_refused(ask):
    table = features(500)
    squeezed = stream(table, pa.ipc.IpcWriteOptions(compression="zstd"))
    assert "compressed" in answered(ask(squeezed, ARROW))["error"]
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array(["x" * 100_000]))
    response = ask(stream(table.set_column(1, "kind", long)), ARROW)
    assert (response.status, "spells out to" in answered(response)["error"]) == (413, True)


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/v1/likes/score", {"layuot": "columns"}, "unknown parameter 'layuot': did you mean 'layout'?"),
        ("/v1/likes/score", {"date": "2026-01-02"}, "unknown parameter 'date': known: layout"),
        ("/v1/likes/score", {"layout": "column"}, "layout 'column': did you mean 'columns'?"),
        ("/v1/likes/scores/1", {"dat": "secret"}, "unknown parameter 'dat': did you mean 'date'?"),
        ("/v1/likes/scores/1", {"date": "gestern"}, "date: 'gestern' is not a date: give YYYY-MM-DD"),
        ("/v1/likes/scores/1", {"date": ""}, "date: '' is not a date"),
    ],
)
def test_a_parameter_that_would_be_left_out_of_account_is_refused(ask, path, query, said):
    response = ask([GOOD] if path.endswith("score") else b"", path=path, query=query)
    assert response.status == 400
    assert said in answered(response)["error"]
    assert b"secret" not in response.body


def test_what_is_for_somebody_before_us_is_left_out(server):
    app = Flask("test")
    for query, status in (("?key=k&layout=columns", 200), ("?kez=k", 400)):
        with app.test_request_context(f"/v1/likes/score{query}", method="POST", json=[GOOD]):
            assert flask_app.reply(server, io.StringIO(), others=("key",)).status_code == status


def test_a_path_that_is_not_of_rows_takes_whatever_its_callers_add(ask):
    paths = ("/health", "/ready", "/", "/metrics", "/openapi.json")
    assert {ask(path=path, query={"probe": "1"}).status for path in paths} <= {200, 501}


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v1/likes/score", 405, "POST"),
        ("POST", "/v1/likes/scores/1", 405, "GET"),
        ("POST", "/v1/like/score", 404, "did you mean 'likes'"),
        ("GET", "/v1/likes", 404, "/openapi.json lists"),
        ("POST", "/v1/likes/score/", 404, "did you mean '/v1/likes/score'?"),
        ("GET", "/v1/likes/scores", 404, "did you mean '/v1/likes/score"),
        ("GET", "/docs", 404, "known: /, /health, /metrics, /openapi.json, /ready, /v1/likes/score"),
        ("GET", "/v1/likes/scores/x", 400, "'x' is no value of id, which is int64"),
        ("GET", "/v1/likes/scores/1,2", 400, "'1,2' is no value"),
        ("GET", "/v1/likes/scores/999999", 404, "id=999999 has no score in"),
    ],
)
def test_a_path_that_is_not_there(ask, method, path, status, said):
    response = ask(path=path, method=method)
    assert response.status == status
    assert said in answered(response)["error"]


def test_406_for_a_form_that_answers_dont_have(ask):
    assert ask([GOOD], accept="text/html").status == 406
    assert ask([GOOD], accept="text/html, */*;q=0.8").status == 200


def test_a_published_score_is_looked_up_with_where_it_is_from(ask, place):
    published = read(place.table("scores"))
    row = published.slice(7, 1).to_pylist()[0]
    said = answered(ask(path=f"/v1/likes/scores/{row['id']}"))
    assert said["score"] == {name: row[name] for name in ("id", "kind", "p", "_warnings")}
    assert said["lineage"]["_run_id"] == row["_run_id"]
    assert said["table"] == {"name": place.table("scores"), "version": 1}


def test_nobody_without_a_key_gets_more_than_health(ask, prepared):
    keys = read_keys("env:KEYS", {"KEYS": "shop=correct-horse-battery\nother=another-long-secret"})
    guarded = server_for([prepared], Limits(), keys)
    guarded.jobs["likes"].published.refresh()
    refused = ask([GOOD], at=guarded)
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert ask([GOOD], at=guarded, x_api_key="wrong-horse-battery").status == 401
    assert [ask(path=path, at=guarded).status for path in ("/metrics", "/openapi.json")] == [401, 401]
    assert [ask(path=path, at=guarded).status for path in ("/health", "/ready", "/")] == [200, 200, 200]
    by_header = ask([GOOD], at=guarded, x_api_key="another-long-secret")
    bearer = ask([GOOD], at=guarded, authorization="Bearer correct-horse-battery")
    assert [(one.status, one.facts["client"]) for one in (by_header, bearer)] == [(200, "other"), (200, "shop")]
    assert b"kind" not in ask(path="/", at=guarded).body


def test_429_with_when_to_come_again(ask, server):
    now = [0.0]
    slow = replace(server, rates=Rates(0.5, lambda: now[0]))
    assert [ask([GOOD], at=slow).status for _ in range(2)] == [200, 429]
    assert ask([GOOD], at=slow).headers["Retry-After"] == "2"
    now[0] += 2
    assert ask([GOOD], at=slow).status == 200


def test_503_where_too_many_wait(ask, server):
    gate = Gate(Limits(queue=3))
    gate._inside = 4
    response = ask([GOOD], at=replace(server, gate=gate))
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert ask(path="/ready", at=replace(server, gate=gate)).status == 503


def test_it_is_ready_once_the_table_was_looked_at_whatever_was_found(ask, server, place):
    published = Published(JobFile(place.conf))
    at = replace(server, jobs={"likes": replace(server.jobs["likes"], published=published)})
    response = ask(path="/ready", at=at)
    assert (response.status, answered(response)["status"]) == (503, "starting")
    published.trouble = "the storage is away"
    assert ask(path="/ready", at=at).status == 200
    published.trouble = ""
    published.refresh()
    assert ask(path="/ready", at=at).status == 200


def test_a_defect_leaves_an_id_and_nothing_else(ask, server, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(scoring, "score", broken)
    with caplog.at_level(logging.ERROR):
        response = ask([GOOD])
    said = answered(response)
    assert response.status == 500
    assert said == {
        "error": f"a defect; the log has it under the id {said['request_id']}",
        "request_id": said["request_id"],
    }
    assert said["request_id"] in caplog.text
    assert "secret of the inside" in caplog.text


def test_an_outside_system_that_is_away_is_503(ask, server, monkeypatch):
    def away(*_):
        raise Unavailable("s3://bucket of ours is away")

    monkeypatch.setattr(server.jobs["likes"].published, "find", away)
    response = ask(path="/v1/likes/scores/1")
    assert response.status == 503
    assert b"bucket" not in response.body


def test_openapi_describes_what_is_answered(ask, prepared):
    document = answered(ask(path="/openapi.json"))
    post = document["paths"]["/v1/likes/score"]["post"]
    example = post["requestBody"]["content"][JSON]["example"]
    assert ask(example).status == 200
    row = post["requestBody"]["content"][JSON]["schema"]["anyOf"][0]["properties"]["records"]["items"]
    assert row["required"] == ["id", "a", "b", "c"]
    assert {str(ask([GOOD]).status), "422", "413", "429", "503"} <= post["responses"].keys()
    get = document["paths"]["/v1/likes/scores/{key}"]["get"]
    described = get["responses"]["200"]["content"][JSON]["schema"]["properties"]
    assert described.keys() <= answered(ask(path="/v1/likes/scores/1")).keys()
    assert {str(ask(path=path).status) for path in ("/v1/likes/scores/x", "/v1/likes/scores/999999")} <= get[
        "responses"
    ].keys()


def test_the_page_brings_no_script_from_elsewhere(ask):
    page = ask(path="/")
    assert page.type.startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert b"likes" in page.body


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ROWS_OF_ANYTHING = st.lists(
    st.dictionaries(st.sampled_from([*GOOD, "z"]), VALUES | st.integers(-(2**80), 2**80), max_size=7), max_size=4
)


@pytest.mark.seeds
@hypothesis.settings(
    max_examples=turns(150, 3_000), suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(rows=ROWS_OF_ANYTHING, columnar=st.booleans())
def test_whatever_json_is_sent_there_is_no_5xx(ask, rows, columnar):
    body = {"columns": {n: [row.get(n) for row in rows] for n in GOOD}} if columnar else {"records": rows}
    assert ask(body).status in (200, 400, 422)
    assert ask([{**GOOD, **row} for row in rows]).status in (200, 400, 422)


WHOLE = {ARROW: stream(features(3)), CSV: text(features(3)), JSON: records(features(3))}


@pytest.mark.seeds
@hypothesis.settings(
    max_examples=turns(300, 20_000), suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    kind=st.sampled_from([ARROW, CSV, JSON]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), max_size=4),
    cut=st.floats(0, 1) | st.none(),
)
def test_whatever_bytes_are_sent_there_is_no_5xx(ask, kind, changes, cut):
    body = bytearray(WHOLE[kind])
    for where, what in changes:
        at = int(where * len(body))
        body[at : at + len(what)] = what
    body = body if cut is None else body[: int(cut * len(body))]
    assert ask(bytes(body), kind).status in (200, 400, 413, 422)
