"""The job file: what is accepted, how it is merged and filled in, what is said when it is wrong."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import lakehouse
from lakehouse.config import Job, Prediction, Sink, Source, build, json_schema, load_job, settings, source_of
from lakehouse.config.reading import deep_merge
from lakehouse.config.systems import EventStream, Receiver, models_of
from lakehouse.errors import ConfigError
from lakehouse.schemas import LINEAGE, REASONS

MINIMAL: dict[str, Any] = {
    "job": "games",
    "source": {"type": "delta", "table": "lake/features/games"},
    "model": {"uri": "models:/games@champion"},
    "keys": ["player_id"],
    "sinks": [{"type": "delta", "table": "lake/scores/games"}],
}
Load = Callable[..., Job]


def told(types: Sequence[str]) -> str:
    """The types as an error lists them."""
    *others, last = map(repr, sorted(types))
    return f"{', '.join(others)} or {last}"


SOURCES = told([*models_of(Source)])


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write a job file of the minimal job with changes on top, or of the text as it is, and load it."""

    def load(
        changes: Mapping[str, Any] | str = {},
        *,
        shared: Mapping[str, Any] | str | None = None,
        date: str | None = None,
        target: str | None = None,
        overrides: Sequence[str] = (),
        environ: Mapping[str, str] = {},
    ) -> Job:
        text = changes if isinstance(changes, str) else yaml.safe_dump(deep_merge(MINIMAL, changes))
        (tmp_path / "games.yaml").write_text(text)
        if shared is not None:
            shared_text = shared if isinstance(shared, str) else yaml.safe_dump(dict(shared))
            (tmp_path / "lakehouse.yaml").write_text(shared_text)
        path = tmp_path / "games.yaml"
        return load_job(path, date=date, target=target, overrides=overrides, environ=environ)

    return load


@pytest.fixture
def problems(load: Load, tmp_path: Path) -> Callable[..., list[str]]:
    """The lines of the error that loading gives, the directory left out."""

    def problems(changes: Mapping[str, Any] | str = {}, **options: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(changes, **options)
        return str(caught.value).replace(f"{tmp_path}/", "").split("\n")

    return problems


Problems = Callable[..., list[str]]


# --- what a job is ---------------------------------------------------------------------------------------


def test_a_minimal_job_gets_the_documented_defaults(load: Load) -> None:
    assert load().model_dump() == {
        "job": "games",
        "source": {
            "type": "delta",
            "table": "lake/features/games",
            "where": None,
            "version": None,
            "timestamp": None,
            "min_rows": 1,
        },
        "model": {
            "uri": "models:/games@champion",
            "by": None,
            "missing": "quarantine",
            "method": None,
            "params": {},
            "signature": None,
            "batch_rows": 65536,
            "trust": (),
            "challengers": (),
            "signed_by": None,
            "environment": "strict",
            "isolation": {"python": None, "index": None, "accept": (), "builds": "refused", "cache": None},
            "tracking_uri": None,
            "registry_uri": None,
            "offline": "refused",
            "cache": None,
        },
        "keys": ("player_id",),
        "keys_unique": "warn",
        "keep": (),
        "predictions": None,
        "slice": {},
        "features": {"rename": {}, "match": "exact", "nulls": "model", "tensor": (), "reshape": (), "cast": {}},
        "checks": {
            "features": None,
            "scores": None,
            "drift": None,
            "strict": False,
            "quarantine": {"table": None, "max_fraction": 0.01, "max_rows": None},
        },
        "sinks": ({"type": "delta", "table": "lake/scores/games", "write": "replace"},),
        "state": None,
        "retention": {"runs": None, "files": None},
        "comparison": {"table": None, "by": None},
        "promotion": None,
        "explanations": None,
        "receipts": None,
        "publish": {"hold": None, "hold_days": 7},
        "tracking": None,
        "notify": (),
        "publish_events": (),
        "metrics": None,
    }


def test_a_job_is_frozen(load: Load) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().source.table = "elsewhere"


def test_a_job_knows_its_date_and_file(load: Load, tmp_path: Path) -> None:
    job = load(date="2026-01-02")
    assert (job.date, job.path) == ("2026-01-02", str(tmp_path / "games.yaml"))


def test_a_job_survives_pickling(load: Load) -> None:
    job = load({"slice": {"score_date": "{date}"}}, date="2026-01-02")
    copy = pickle.loads(pickle.dumps(job))
    assert (copy, copy.date) == (job, "2026-01-02")


@pytest.mark.parametrize(
    ("form", "normal"),
    [
        (0, Prediction(output=0)),
        ("probability", Prediction(output="probability")),
        ("*", Prediction(output="*")),
        ({"class": 1}, Prediction(class_=1)),
        ({"class": 0}, Prediction(class_=0)),
        ({"class": False}, Prediction(class_=False)),
        ({"class": 1.5}, Prediction(class_=1.5)),
        ({"output": 0, "threshold": 0.5}, Prediction(output=0, threshold=0.5)),
        ({"output": "p", "threshold": 1}, Prediction(output="p", threshold=1.0)),
        ({"class": "yes", "threshold": 0.5}, Prediction(class_="yes", threshold=0.5)),
    ],
)
def test_each_form_of_a_prediction_has_one_normal_form(load: Load, form: object, normal: Prediction) -> None:
    predictions = load({"predictions": {"p": form}}).predictions
    assert repr(predictions) == repr({"p": normal})  # repr, since 1 == True == 1.0


def test_slice_values_keep_their_type(load: Load) -> None:
    text = yaml.safe_dump(MINIMAL) + "slice: {day: 2026-01-02, quoted: '7', number: 7, flag: true}\n"
    assert repr(load(text).slice) == repr({"day": "2026-01-02", "quoted": "7", "number": 7, "flag": True})


def test_a_job_made_in_code_may_slice_by_a_date() -> None:
    job = Job.model_validate({**MINIMAL, "slice": {"day": dt.date(2026, 1, 2)}})
    assert (job.slice, settings(job)["slice"]) == ({"day": dt.date(2026, 1, 2)}, {"day": "2026-01-02"})


def test_params_keep_lists_and_types(load: Load) -> None:
    params = {"n": 3, "flag": True, "x": 0.5, "names": ["a", "b"], "text": ""}
    assert repr(load({"model": {"params": params}}).model.params) == repr(dict(sorted(params.items())))


def test_trust_takes_names_and_digests(load: Load) -> None:
    trust = ["pickle", "code", "python_function", "sha256:" + "0a" * 32]
    assert load({"model": {"trust": trust}}).model.trust == tuple(trust)


# --- what is refused, each with one line ------------------------------------------------------------------

PREDICTION_FORMS = 'must be a column number, an output\'s name, "*" or {class: label}'


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"job": "games purchase"}, "job: must be at most 100 letters, digits, '_', '.' and '-', the first "),
        ({"job": "x" * 101}, "job: must be at most 100 letters"),
        ({"job": "games\n"}, "job: must be at most 100 letters"),
        ({"job": 7}, "job: must be text, not 7 (a whole number)"),
        ({"keys": []}, "keys: name at least one column that identifies a row"),
        ({"keys": "player_id"}, "keys: must be a list, not 'player_id' (text): write [player_id]"),
        ({"keys": [""]}, "keys.0: must not be empty"),
        ({"keys": ["a", "A"]}, "keys: 'A' is already a column of the scored table, by keys ('a')"),
        ({"keep": [3]}, "keep.0: must be text, not 3 (a whole number)"),
        ({"source": {"type": "snow"}}, f"source.type: must be {SOURCES}, not 'snow' (text)"),
        ({"source": {"type": None}}, f"source.type: must be {SOURCES}, not nothing (null)"),
        ({"source": {"type": True}}, f"source.type: must be {SOURCES}, not true (true or false): YAML"),
        ({"sinks": [{"table": "t"}]}, "sinks.0.type: missing, the system the table is in"),
        ({"source": {"version": -1}}, "source.version: must be at least 0, not -1"),
        ({"source": {"version": "3"}}, "source.version: must be a whole number, not '3' (text)"),
        ({"source": {"version": True}}, "source.version: must be a whole number, not true (true or false)"),
        ({"source": {"min_rows": -1}}, "source.min_rows: must be at least 0, not -1"),
        (
            {"source": {"version": 1, "timestamp": "2026-01-02T00:00:00Z"}},
            "source: version and timestamp exclude each other: give one of them",
        ),
        ({"source": "lake/games"}, "source: must be a section of keys, not 'lake/games' (text)"),
        ({"model": {"method": "predit"}}, "model.method: must be 'predict', 'predict_proba', 'predict_log_proba' or 'decision_function', not 'predit'"),
        ({"model": {"batch_rows": 0}}, "model.batch_rows: must be at least 1, not 0"),
        ({"model": {"batch_rows": 10_000_001}}, "model.batch_rows: must be at most 10000000, not 10000001"),
        ({"model": {"trust": ["pickel"]}}, "model.trust.0: 'pickel' can't be trusted, did you mean 'pickle'"),
        ({"model": {"trust": ["sha256:12"]}}, "model.trust.0: must be sha256: and 64 lower-case hexadecimal"),
        ({"model": {"params": {"a": {"b": 1}}}}, "model.params.a: must be a single value or a list of singl"),
        ({"model": {"params": {"a": float("nan")}}}, "model.params.a: must be a finite number, not nan"),
        ({"model": {"params": {"a": [1.5, float("inf")]}}}, "model.params.a: must be a finite number, not inf"),
        ({"model": {"params": {"a": [None]}}}, "model.params.a: must be a single value or a list of single"),
        ({"predictions": {}}, "predictions: name at least one column, or leave the section out"),
        ({"predictions": {"p": True}}, f"predictions.p: {PREDICTION_FORMS}, not true (true or false)"),
        ({"predictions": {"p": 0.5}}, f"predictions.p: {PREDICTION_FORMS}, not 0.5 (a number)"),
        ({"predictions": {"p": None}}, f"predictions.p: {PREDICTION_FORMS}, not nothing (null)"),
        ({"predictions": {"p": [0]}}, f"predictions.p: {PREDICTION_FORMS}, not a list"),
        ({"predictions": {"p": {}}}, "predictions.p: give exactly one of output and class"),
        ({"predictions": {"p": {"threshold": 0.5}}}, "predictions.p: give exactly one of output and class"),
        ({"predictions": {"p": {"output": 0, "class": 1}}}, "predictions.p: give exactly one of output and"),
        ({"predictions": {"p": {"output": True}}}, "predictions.p.output: must be a whole number or text, n"),
        ({"predictions": {"p": -1}}, "predictions.p: output must be a column number from 0 on or a name, no"),
        ({"predictions": {"p": ""}}, "predictions.p: output must be a column number from 0 on or a name, no"),
        ({"predictions": {"p": {"class": [1]}}}, "predictions.p.class: must be true or false or a whole num"),
        ({"predictions": {"p": {"class": float("nan")}}}, "predictions.p.class: must be a finite number, no"),
        ({"predictions": {"p": {"output": 0, "threshold": "x"}}}, "predictions.p.threshold: must be a numbe"),
        ({"predictions": {"p": {"output": 0, "threshold": float("inf")}}}, "predictions.p.threshold: must"),
        ({"predictions": {"": 0}}, "predictions.: must not be empty"),
        ({"retention": {"runs": "0 days"}}, "retention.runs: must be a number of days, such as '400 days', not '0 days' (text)"),
        ({"retention": {"runs": 400}}, "retention.runs: must be text, not 400 (a whole number)"),
        ({"state": "\ud800"}, "state: must be valid Unicode text, not "),
        ({"predictions": {"p": {"output": 0, "threshold": True}}}, "predictions.p.threshold: must be a numb"),
        ({"predictions": {"p": {"class_": 1}}}, "predictions.p.class_: unknown key, did you mean 'class'?"),
        ({"predictions": {"_p": 0}}, "predictions: '_p' begins with '_', as only lineage columns may"),
        ({"predictions": {7: 0}}, "predictions.7: the key must be text, not 7 (a whole number): put it in q"),
        ({"predictions": {"Player_ID": 0}}, "predictions: 'Player_ID' is already a column of the scored tab"),
        ({"keep": ["player_id"]}, "keep: 'player_id' is already a column of the scored table, by keys"),
        ({"slice": {"player_id": 1}}, "slice: 'player_id' is already a column of the scored table, by keys"),
        ({"slice": {"_day": 1}}, "slice: '_day' begins with '_', as only lineage columns may"),
        ({"slice": {"day": ""}}, "slice.day: must not be empty: a slice value names what this run replaces"),
        ({"slice": {"day": None}}, "slice.day: must be text or a whole number or true or false or a date, n"),
        ({"slice": {"day": 1.5}}, "slice.day: must be text or a whole number or true or false or a date, no"),
        ({"slice": {"day": {"date": None}}}, 'slice.day: must be text or a whole number or true or false or'),
        ({"features": {"match": "fuzzy"}}, "features.match: must be 'exact' or 'case_insensitive', not 'fuz"),
        ({"features": {"rename": {"age": 3}}}, "features.rename.age: must be text, not 3 (a whole number)"),
        ({"checks": {"quarantine": {"max_fraction": 1.1}}}, "checks.quarantine.max_fraction: must be at mos"),
        ({"checks": {"quarantine": {"max_rows": -1}}}, "checks.quarantine.max_rows: must be at least 0, not"),
        ({"sinks": []}, "sinks: name at least one table to publish to"),
        ({"sinks": [5]}, "sinks.0: must be a section of keys, not 5 (a whole number)"),
        ({"tracking": {"experiment": ""}}, "tracking.experiment: must not be empty"),
        ({"tracking": {}}, "tracking.experiment: missing, the MLflow experiment that gets a run with the fi"),
        ({"date": "2026-01-02"}, "date: not a key of the file: give --date"),
        ({"targets": {}}, "targets: not a key of a job file: targets are in lakehouse.yaml beside it"),
        ({1: 2}, "1: the key must be text, not 1 (a whole number): put it in quotes"),
    ],
)  # fmt: skip
def test_a_mistake_gives_one_line_that_says_where_and_what(
    problems: Problems, changes: Mapping[str, Any], line: str
) -> None:
    (only,) = problems(changes)
    assert only.startswith(f"games.yaml: {line}")


def sink(table: str, **more: object) -> dict[str, object]:
    return {"type": "delta", "table": table, **more}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sinks": [sink("a", write="upsert")]}, "sinks.0.write: must be 'replace', 'append' or 'merge', not 'upsert'"),
        ({"sinks": [sink("a/b"), sink("./a//b/")]}, "sinks.1.table: './a//b/' is also sinks.0.table"),
        ({"sinks": [sink("s3://a/b"), sink("s3://a/b/")]}, "sinks.1.table: 's3://a/b/' is also sinks.0.tabl"),
        ({"sinks": [sink("lake/features/games/")]}, "sinks.0.table: 'lake/features/games/' is also source.t"),
        (
            {"sinks": [sink("q")], "checks": {"quarantine": {"table": "q"}}},
            "sinks.0.table: 'q' is also checks.quarantine.table",
        ),
        (
            {
                "sinks": [sink("a", write="append")],
                "slice": {"d": 1},
                "source": {"where": "d = '{date}'"},
            },
            "sinks.0.write: append needs a job without slice; with one, use replace",
        ),
        (
            {"sinks": [sink("a", write="append")]},
            "source.where: append needs a condition with {date}, such as \"day = '{date}'\"",
        ),
        (
            {"sinks": [sink("a", write="append")], "source": {"where": "day = '2026-01-02'"}},
            "source.where: append needs a condition with {date}",
        ),
    ],
)  # fmt: skip
def test_sinks_that_would_lose_or_repeat_rows_are_refused(
    problems: Problems, changes: Mapping[str, Any], line: str
) -> None:
    (only,) = problems(changes, date="2026-01-02")
    assert only.startswith(f"games.yaml: {line}")


def test_append_is_accepted_when_where_depends_on_the_date(load: Load) -> None:
    changes = {"sinks": [sink("a", write="append")], "source": {"where": "day = '{date}'"}}
    job = load(changes, date="2026-01-02")
    assert (job.sinks[0].write, job.source.where) == ("append", "day = '2026-01-02'")


SNOW = {"type": "snowflake", "connection": "prod", "table": "SCORES"}


def test_a_delta_table_and_one_in_snowflake_make_a_pair(load: Load) -> None:
    job = load({"sinks": [SNOW, sink("a/b")]})
    assert [each.table for each in job.sinks] == ["SCORES", "a/b"]
    assert job.delta_sink is job.sinks[1]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sinks": [sink("s3://a/b"), sink("a/b")]}, "sinks: one Delta table at most, since the staged files become"),
        ({"sinks": [SNOW, {**sink("a/b"), "write": "merge"}]}, "sinks: all must be written in one way (write)"),
        ({"sinks": [SNOW]}, "state: missing, a folder for staged files and run records"),
        ({"sinks": [{**SNOW, "connection": None}], "state": "s"}, "sinks.0: connection is missing"),
        ({"sinks": [{**sink("a/b"), "connection": "prod"}]}, "sinks.0: connection: only with type: snowflake"),
        ({"source": {"query": "SELECT 1"}}, "source: query: only with type: snowflake"),
        ({"source": {"table": None}}, "source: table is missing"),
        ({"source": {**SNOW, "query": "SELECT 1"}}, "source: give exactly one of table and query"),
        ({"source": {**SNOW, "version": 3}}, "source: version: a table in Snowflake has none"),
        ({"source": {**SNOW, "table": None, "query": "SELECT 1", "timestamp": "2026-01-01"}},
         "source: timestamp: with a query, write AT(TIMESTAMP"),
        ({"source": SNOW, "sinks": [{**SNOW, "table": "scores"}], "state": "s"},
         "sinks.0.table: 'scores' is also source.table"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_from_or_published_to_snowflake(
    problems: Problems, changes: Mapping[str, Any], line: str
) -> None:
    (said,) = problems(changes)
    assert said.startswith(f"games.yaml: {line}")


def test_an_empty_key_of_another_system_may_stand(load: Load) -> None:
    changes = {"source": {"connection": None, "query": None, "columns": []}, "sinks": [sink("a", connection=None)]}
    assert load(changes) == load({"sinks": [sink("a")]})


def test_a_part_is_made_in_code_by_its_type() -> None:
    made = build(Source, type="delta", table="t", version=3)
    assert made == Job.model_validate({**MINIMAL, "source": {"type": "delta", "table": "t", "version": 3}}).source
    scored = build(Sink, type="snowflake", connection="c", table="a.b.T", write="merge")
    assert source_of(scored, where="x = 1") == build(
        Source, type="snowflake", connection="c", table="a.b.T", where="x = 1"
    )
    with pytest.raises(ValueError, match="type 'snow' is unknown, did you mean 'snowflake'"):
        build(Source, type="snow", table="t")


ICEBERG = '''
from typing import ClassVar, Literal

from pydantic import Field

from lakehouse.config.systems import Source


class IcebergSource(Source):
    """An Iceberg table."""

    type: Literal["iceberg"] = Field(description="the system the input is in")
    branch: bool = Field(True, description="whether the main branch is read")
    CASELESS: ClassVar[bool] = True
'''


def test_another_system_is_one_more_file(tmp_path: Path) -> None:
    (tmp_path / "iceberg.py").write_text(ICEBERG)
    code = f"""
import json, sys
from lakehouse.config import Job, json_schema, settings, systems
systems.__path__.append({str(tmp_path)!r})
from lakehouse.config.messages import Origin
from lakehouse.config.problems import explain
job = json.loads(sys.stdin.read())
def load(**source):
    try:
        return Job.model_validate({{**job, "source": {{**job["source"], **source}}}})
    except ValueError as error:
        return list(explain(error, Job, Origin("f", {{}}, ())))
made = load(type="iceberg", branch=False)
print(json.dumps([
    made.features.match, settings(made)["source"], load(type="iceberg", version=3), load(branch=True), load(type="ice"),
    load(type="iceberg", brunch=True), [each["$ref"] for each in json_schema()["properties"]["source"]["anyOf"]],
]))
"""
    shown = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(MINIMAL), capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout) == [
        "case_insensitive",
        {"type": "iceberg", "table": "lake/features/games", "where": None, "branch": False},
        ["f: source: version: only with type: delta"],
        ["f: source: branch: only with type: iceberg"],
        [f"f: source.type: must be {told([*models_of(Source), 'iceberg'])}, not 'ice' (text)"],
        ["f: source.brunch: unknown key, did you mean 'branch'?"],
        [f"#/$defs/{name.capitalize()}Source" for name in sorted([*models_of(Source), "iceberg"])],
    ]


def test_the_systems_are_found_in_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lakehouse.zip", "w") as archive:
        root = Path(lakehouse.__file__).parent
        for file in [*root.glob("*.py"), *root.glob("config/**/*.py")]:
            archive.write(file, Path("lakehouse", file.relative_to(root)))
    code = (
        "from lakehouse.config import systems as s; print([*s.models_of(s.Source), *s.models_of(s.Sink)], s.__file__)"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "lakehouse.zip")}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ, cwd=tmp_path
    ).stdout
    assert shown.startswith(f"{[*models_of(Source), *models_of(Sink)]} {tmp_path}/lakehouse.zip/")


def test_case_plays_no_part_in_names_of_snowflake(load: Load) -> None:
    assert load({"source": SNOW}).features.match == "case_insensitive"
    assert load({"source": SNOW, "features": {"match": "exact"}}).features.match == "exact"


def test_missing_keys_are_listed_together_with_what_they_mean(problems: Problems) -> None:
    assert problems("keep: [country]\n") == [
        "games.yaml: job: missing, the job's identity: with the slice it names the transaction, so it never changes",
        "games.yaml: source: missing, where the rows to score are read",
        "games.yaml: model: missing, which model scores them",
        "games.yaml: keys: missing, the columns that identify a row, passed through to the scored table",
        "games.yaml: sinks: missing, the tables the scores are published to, in this order",
    ]


def test_every_problem_is_told_at_once(problems: Problems) -> None:
    lines = problems({"source": {"tabel": "x"}, "predictions": {"p": True, "q": None}, "keys": []})
    assert [line.split(": ")[1] for line in lines] == [
        "source.tabel",
        "keys",
        "predictions.p",
        "predictions.q",
    ]


def test_clashes_are_told_all_at_once(problems: Problems) -> None:
    changes = {"keep": ["a", "a"], "slice": {"_b": 1}, "sinks": [sink("t"), sink("t")]}
    assert [line.split(": ")[1] for line in problems(changes)] == ["keep", "slice", "sinks.1.table"]


@pytest.mark.parametrize("section", ["keys", "keep"])
@pytest.mark.parametrize("name", [*LINEAGE.names, REASONS, "_Run_ID"])
def test_a_lineage_name_can_not_be_passed_through(problems: Problems, section: str, name: str) -> None:
    assert problems({section: [name]}) == [
        f"games.yaml: {section}: {name!r} is the name of a lineage column: rename it in the input"
    ]


def test_other_names_with_an_underscore_can_be_passed_through(load: Load) -> None:
    job = load({"keys": ["_id"], "keep": ["_run"]})
    assert (job.keys, job.keep) == (("_id",), ("_run",))


def test_errors_speak_no_pydantic(problems: Problems) -> None:
    text = "\n".join(problems({"source": 1, "keys": 1, "model": {"uri": 1, "x": 1}, "slice": {"a": []}}))
    assert not re.search(r"pydantic|https?:|Input should|Value error|validation error|type=", text)


# --- unknown keys -----------------------------------------------------------------------------------------

FULL: dict[str, Any] = deep_merge(
    MINIMAL,
    {
        "predictions": {"output": {"output": 0}},  # named as a key is, to confuse the look-up
        "checks": {"quarantine": {"table": "q"}},
        "features": {"match": "exact"},
        "tracking": {"experiment": "e"},
    },
)
SECTIONS: list[tuple[str | int, ...]] = [
    (),
    ("source",),
    ("model",),
    ("predictions", "output"),
    ("checks",),
    ("checks", "quarantine"),
    ("features",),
    ("tracking",),
    ("sinks", 0),
]


def with_key(node: Any, at: Sequence[str | int], key: str) -> Any:
    """A copy of a document with one more key in the section at a path."""
    if not at:
        return {**node, key: 1}
    if isinstance(node, list):
        return [with_key(item, at[1:], key) if number == at[0] else item for number, item in enumerate(node)]
    return {**node, at[0]: with_key(node[at[0]], at[1:], key)}


@given(at=st.sampled_from(SECTIONS), key=st.from_regex(r"[a-z]{2,8}x{3}", fullmatch=True))
def test_an_unknown_key_at_any_level_gives_one_line_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, at: tuple[str | int, ...], key: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "unknown.yaml"
    path.write_text(yaml.safe_dump(with_key(FULL, at, key)))
    with pytest.raises(ConfigError) as caught:
        load_job(path, date=None, environ={})
    where = re.escape(f"{path}: {'.'.join(map(str, (*at, key)))}")
    assert re.fullmatch(rf"{where}: unknown key, (known: .+|did you mean .+\?)", str(caught.value))


@pytest.mark.parametrize(
    ("at", "wrong", "right"),
    [
        ((), "predictoins", "predictions"),
        (("source",), "tabel", "table"),
        (("model",), "batch_row", "batch_rows"),
        (("predictions", "output"), "treshold", "threshold"),
        (("predictions", "output"), "klass", "class"),
        (("checks",), "quarantin", "quarantine"),
        (("checks", "quarantine"), "max_row", "max_rows"),
        (("features",), "renames", "rename"),
        (("tracking",), "experment", "experiment"),
        (("sinks", 0), "wirte", "write"),
    ],
)
def test_an_unknown_key_names_the_nearest_of_its_own_section(
    problems: Problems, at: tuple[str | int, ...], wrong: str, right: str
) -> None:
    (line,) = problems(yaml.safe_dump(with_key(FULL, at, wrong)))
    assert line.endswith(f"{wrong}: unknown key, did you mean {right!r}?")


def test_an_unknown_key_beside_a_class_names_the_nearest(problems: Problems) -> None:
    assert problems({"predictions": {"purchase": {"class": 1, "treshold": 0.5}}}) == [
        "games.yaml: predictions.purchase.treshold: unknown key, did you mean 'threshold'?"
    ]


# --- the file ---------------------------------------------------------------------------------------------


def test_a_missing_file_names_the_nearest_beside_it(tmp_path: Path) -> None:
    (tmp_path / "games.yaml").touch()
    (tmp_path / "lakehouse.yaml").touch()
    with pytest.raises(ConfigError, match=r"gamse\.yaml: no such file in /.*, did you mean 'games\.yaml'\?$"):
        load_job(tmp_path / "gamse.yaml", date=None, environ={})


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"conf/x\.yaml: no such file in /.*/conf, and no \*\.yaml there$"):
        load_job(tmp_path / "conf" / "x.yaml", date=None, environ={})


def test_the_shared_file_is_not_offered_as_a_job(tmp_path: Path) -> None:
    (tmp_path / "lakehouse.yaml").touch()
    with pytest.raises(ConfigError, match=r"and no \*\.yaml there$"):
        load_job(tmp_path / "lakehouse.yml", date=None, environ={})


def test_a_directory_is_not_a_job_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder: name a job file in it, there are none"):
        load_job(tmp_path, date=None, environ={})


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("job: [a\nkeys: b\n", "games.yaml, line 2, column 5: not readable as YAML: while parsing a flow se"),
        ("job: a\n\tkeys: b\n", "games.yaml, line 2, column 1: not readable as YAML: "),
        ("job: a\nkeys: [b]\njob: c\n", "games.yaml, line 3, column 1: not readable as YAML: the key 'job' "),
        ("model:\n  uri: a\n  uri: b\n", "games.yaml, line 3, column 3: not readable as YAML: the key 'uri'"),
        ("? [a]\n: b\n", "games.yaml, line 1, column 3: not readable as YAML: while constructing a mapping"),
        ("job: &a [*a]\n", "games.yaml, line 1, column 6: not readable as YAML: found unconstructable recur"),
        ("job: !!python/name:os.system\n", "games.yaml, line 1, column 6: not readable as YAML: could not d"),
        ("a: 1\n---\nb: 2\n", "games.yaml, line 2, column 1: not readable as YAML: expected a single docume"),
        ('a: !!int ""\n', "games.yaml: not readable as YAML: "),
        ("a: !!bool maybe\n", "games.yaml: not readable as YAML: "),
        ("a: !!timestamp x\n", "games.yaml: not readable as YAML: "),
        ("a: " + "[" * 5000, "games.yaml: not readable as YAML: maximum recursion depth exceeded"),
        ("- a\n", "games.yaml: must be a section of keys, not a list"),
        ("just text\n", "games.yaml: must be a section of keys, not 'just text' (text)"),
    ],
)  # fmt: skip
def test_unreadable_yaml_is_located(problems: Problems, text: str, start: str) -> None:
    (line,) = problems(text)
    assert line.startswith(start)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "games.yaml").write_bytes(b"job: \xff\n")
    with pytest.raises(ConfigError, match=r"games\.yaml: not readable as YAML: .*invalid start byte"):
        load_job(tmp_path / "games.yaml", date=None, environ={})


def test_yaml_merge_keys_still_work(load: Load) -> None:
    merged = "checks: {quarantine: {<<: {max_rows: 1, max_fraction: 0.5}, max_rows: 2}}\n"
    quarantine = load(yaml.safe_dump(MINIMAL) + merged).checks.quarantine
    assert (quarantine.max_rows, quarantine.max_fraction) == (2, 0.5)


def test_an_empty_file_misses_everything(problems: Problems) -> None:
    assert [line.split(": ")[1] for line in problems("")] == ["job", "source", "model", "keys", "sinks"]


# --- defaults and targets ---------------------------------------------------------------------------------


def test_defaults_lie_under_the_job(load: Load) -> None:
    shared = {"defaults": {"model": {"batch_rows": 10, "uri": "models:/other/1"}, "state": "lake/state"}}
    job = load(shared=shared)
    assert (job.model.batch_rows, job.model.uri, job.state) == (10, "models:/games@champion", "lake/state")


def test_a_target_lies_over_the_job(load: Load) -> None:
    shared = {
        "defaults": {"state": "d"},
        "targets": {"prod": {"model": {"uri": "models:/prod/1"}, "state": "p"}, "dev": {"state": "x"}},
    }
    job = load({"state": "j"}, shared=shared, target="prod")
    assert (job.model.uri, job.state, job.source.table) == ("models:/prod/1", "p", "lake/features/games")


def test_without_a_target_none_applies(load: Load) -> None:
    assert load({"state": "j"}, shared={"targets": {"prod": {"state": "p"}}}).state == "j"


def test_lists_are_replaced_not_joined(load: Load) -> None:
    assert load({"keep": ["b"]}, shared={"defaults": {"keep": ["a"]}}).keep == ("b",)


def test_a_null_in_the_job_takes_a_default_away(load: Load) -> None:
    assert load({"tracking": None}, shared={"defaults": {"tracking": {"experiment": "e"}}}).tracking is None


@pytest.mark.parametrize(
    ("shared", "target", "line"),
    [
        (None, "prod", "target 'prod' needs lakehouse.yaml, which does not exist"),
        ({"targets": {"prod": {}}}, "prd", "lakehouse.yaml: targets.prd: unknown target, did you mean 'prod"),
        ({}, "prod", "lakehouse.yaml: targets.prod: unknown target, there are none"),
        ({"default": {}}, None, "lakehouse.yaml: default: unknown key, did you mean 'defaults'?"),
        ({"defaults": [1]}, None, "lakehouse.yaml: defaults: must be a section of keys, not a list"),
        ({"targets": {"prod": 1}}, "prod", "lakehouse.yaml: targets.prod: must be a section of keys, not 1 "),
        ("a: [", None, "lakehouse.yaml, line 1, column 5: not readable as YAML: "),
    ],
)  # fmt: skip
def test_a_wrong_shared_file_or_target_is_said(problems: Problems, shared: Any, target: str | None, line: str) -> None:
    (only,) = problems(shared=shared, target=target)
    assert only.startswith(line)


def test_a_problem_names_the_file_that_it_stands_in(problems: Problems) -> None:
    shared = {"defaults": {"model": {"batch_rows": 0}}, "targets": {"prod": {"source": {"tabel": "x"}}}}
    assert problems({"keys": []}, shared=shared, target="prod") == [
        "lakehouse.yaml: targets.prod: source.tabel: unknown key, did you mean 'table'?",
        "lakehouse.yaml: defaults: model.batch_rows: must be at least 1, not 0",
        "games.yaml: keys: name at least one column that identifies a row",
    ]


def trees(depth: int) -> st.SearchStrategy[Any]:
    """Nested dicts in which a key is always a section (capital) or never one."""
    leaves = st.dictionaries(st.sampled_from("ab"), st.integers(0, 9))
    if not depth:
        return leaves
    sections = st.dictionaries(st.sampled_from("AB"), trees(depth - 1))
    return st.builds(lambda left, right: {**left, **right}, leaves, sections)


@given(trees(3), trees(3), trees(3))
def test_deep_merge_is_associative(a: Any, b: Any, c: Any) -> None:
    assert deep_merge(deep_merge(a, b), c) == deep_merge(a, deep_merge(b, c))


@given(trees(3), trees(3))
def test_deep_merge_keeps_all_of_the_upper_and_leaves_its_arguments_alone(a: Any, b: Any) -> None:
    before = json.dumps([a, b])
    merged = deep_merge(a, b)
    assert deep_merge(merged, b) == merged
    assert merged.keys() == a.keys() | b.keys()
    assert json.dumps([a, b]) == before


# --- overrides --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("model.batch_rows=7", lambda job: job.model.batch_rows, 7),
        ("sinks.0.table=x", lambda job: job.sinks[0].table, "x"),
        ("keep=[a, b]", lambda job: job.keep, ("a", "b")),
        ("tracking.experiment=e", lambda job: job.tracking.experiment, "e"),
        ("source.where=a = 'b=c'", lambda job: job.source.where, "a = 'b=c'"),
        ("source.where=", lambda job: job.source.where, None),
        ("slice.day={date}", lambda job: job.slice, {"day": "2026-01-02"}),
        ("slice.day=2026-03-04", lambda job: job.slice, {"day": "2026-03-04"}),
        ("predictions.p.class=1", lambda job: job.predictions, {"p": Prediction(class_=1)}),
    ],
)
def test_an_override_is_read_as_yaml(load: Load, override: str, read: Callable[[Job], object], value: object) -> None:
    assert read(load({"source": {"where": "x = 1"}}, overrides=[override], date="2026-01-02")) == value


def test_overrides_win_over_the_target_and_later_over_earlier(load: Load) -> None:
    shared = {"targets": {"prod": {"state": "p"}}}
    assert load(shared=shared, target="prod", overrides=["state=a", "state=b"]).state == "b"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("state", "override 'state': give key.key=value"),
        ("=x", "override '=x': give key.key=value"),
        ("a..b=x", "override 'a..b=x': give key.key=value"),
        ("sinks.1.table=x", "override 'sinks.1.table=x': index 1 is out of range, the list has 1 entry, cou"),
        ("sinks.-1.table=x", "override 'sinks.-1.table=x': index -1 is out of range"),
        ("sinks.a=x", "override 'sinks.a=x': index a is out of range"),
        ("job.name=x", "override 'job.name=x': 'name' is sought in 'games' (text), which is not a section"),
        ("state=[", "override 'state=[', line 1, column 2: not readable as YAML: "),
        ("sourc.table=x", "override 'sourc.table=x': sourc: unknown key, did you mean 'source'?"),
        ("sinks.0.tabel=x", "override 'sinks.0.tabel=x': sinks.0.tabel: unknown key, did you mean 'table'?"),
        ("model.batch_rows=many", "override 'model.batch_rows=many': model.batch_rows: must be a whole numb"),
        ("sinks.0.table=5", "override 'sinks.0.table=5': sinks.0.table: must be text, not 5"),
        ("state=${X}", "override 'state=${X}': state: environment variable 'X' is not set"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named(problems: Problems, override: str, line: str) -> None:
    (only,) = problems(overrides=[override])
    assert only.startswith(line)


# --- placeholders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${LAKE}/games", "s3://lake/games"),
        ("${LAKE}/${LAKE}", "s3://lake/s3://lake"),
        ("a/{date}/b", "a/2026-01-02/b"),
        ("$${LAKE}", "${LAKE}"),
        ("$${date}", "${date}"),
        ("$LAKE", "$LAKE"),
        ("{dates} {{date}} { date } {0} {}", "{dates} {2026-01-02} { date } {0} {}"),
        ("${ODD}", "{date} ${LAKE}"),
        ("${EMPTY}x", "x"),
    ],
)
def test_placeholders_are_filled_in_once(load: Load, text: str, filled: str) -> None:
    environ = {"LAKE": "s3://lake", "ODD": "{date} ${LAKE}", "EMPTY": ""}
    assert load({"state": text}, date="2026-01-02", environ=environ).state == filled


def test_placeholders_are_filled_in_lists_and_sections_but_not_in_keys(load: Load) -> None:
    changes = {"keep": ["{date}"], "slice": {"{date}": "{date}"}, "model": {"params": {"x": ["${A}"]}}}
    job = load({**changes, "keep": ["c_{date}"]}, date="2026-01-02", environ={"A": "1"})
    assert (job.keep, job.slice, job.model.params) == (
        ("c_2026-01-02",),
        {"{date}": "2026-01-02"},
        {"x": ["1"]},
    )


def test_what_the_environment_gives_is_text(problems: Problems) -> None:
    lines = problems({"model": {"batch_rows": "${N}"}}, environ={"N": "5"})
    assert lines == ["games.yaml: model.batch_rows: must be a whole number, not '5' (text)"]


def test_unset_variables_name_themselves_their_key_and_their_file(problems: Problems) -> None:
    hint = "is not set: set it, or write $${ for a plain ${"
    shared = {"defaults": {"model": {"tracking_uri": "${MLFLOW}"}}}
    lines = problems({"sinks": [sink("${LAKE}/s")]}, shared=shared)
    assert lines == [
        f"lakehouse.yaml: defaults: model.tracking_uri: environment variable 'MLFLOW' {hint}",
        f"games.yaml: sinks.0.table: environment variable 'LAKE' {hint}",
    ]


@pytest.mark.parametrize(
    ("query", "refused"),
    [
        ("SELECT * FROM t -- yesterday's rows\nWHERE d = '{date}'", False),
        ("SELECT * FROM t /* yesterday's */ WHERE d = '{date}' -- so d = {date}", False),
        ("SELECT $1 AS id FROM @stage/{date}/", False),
        ("SELECT * FROM t WHERE note = 'd = {date}'", False),
        ("SELECT * FROM t WHERE d = {date}", True),
        ("SELECT * FROM t -- it's so\nWHERE d BETWEEN '2026-01-01' AND {date}", True),
        ("SELECT * FROM t WHERE d IN ({date})", True),
    ],
)
def test_a_date_in_a_query_is_quoted_where_it_is_compared(load: Load, query: str, refused: bool) -> None:
    source = {"type": "snowflake", "connection": "c", "query": query}
    text = yaml.safe_dump({**MINIMAL, "source": source})
    if refused:
        with pytest.raises(ConfigError, match="without quotes is arithmetic"):
            load(text, date="2026-01-02")
    else:
        assert load(text, date="2026-01-02").source.query == query.replace("{date}", "2026-01-02")


def test_a_needed_date_names_the_places_that_need_it(problems: Problems) -> None:
    changes = {"source": {"where": "day = '{date}' or day > '{date}'"}, "slice": {"score_date": "{date}"}}
    text = yaml.safe_dump(deep_merge(MINIMAL, changes), sort_keys=False)
    assert problems(text) == ["games.yaml uses {date} at source.where, slice.score_date: give --date YYYY-MM-DD"]


def is_iso_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == 10 and "W" not in text  # 2026-W01-1 has ten characters too


@given(
    st.one_of(
        st.dates().map(str),
        st.text(max_size=12),
        st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", fullmatch=True),
        st.from_regex(r"[0-9]{4}-?W?[0-9]{2}-?[0-9]{1,2}", fullmatch=True),
    )
)
@example("2026-02-29")
@example("2024-02-29")
@example("20260102")
@example("2026-W01-1")
@example("2026-01-02\n")
@example("２026-01-02")
def test_a_date_is_accepted_exactly_if_it_is_an_iso_calendar_date(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "dated.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    if is_iso_date(text):
        assert load_job(path, date=text, environ={}).date == text
    else:
        with pytest.raises(ConfigError) as caught:
            load_job(path, date=text, environ={})
        assert str(caught.value) == f"--date {text!r} is not a date: give YYYY-MM-DD"


# --- settings ---------------------------------------------------------------------------------------------


def test_settings_are_what_can_change_a_score_or_a_verdict(load: Load) -> None:
    changes = {
        "source": {"where": "day = '{date}'"},
        "slice": {"day": "{date}"},
        "keep": ["country"],
        "predictions": {"p": {"class": True}},
        "model": {"method": "predict_proba", "params": {"n": [1, 2]}},
    }
    found = settings(load(changes, date="2026-01-02"))
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "source": {"type": "delta", "table": "lake/features/games", "where": "day = '2026-01-02'"},
        "model": {"method": "predict_proba", "params": {"n": [1, 2]}},
        "keys": ["player_id"],
        "keep": ["country"],
        "predictions": {"p": {"output": None, "class": True, "threshold": None}},
        "slice": {"day": "2026-01-02"},
        "features": {"rename": {}, "match": "exact", "nulls": "model", "tensor": []},
        "checks": {"drift": None, "quarantine": {"table": None, "max_fraction": 0.01, "max_rows": None}},
        "sinks": ["replace"],
    }


@pytest.mark.parametrize(
    "override",
    [
        "job=other",
        "state=s",
        "retention.runs=7 days",
        "source.min_rows=5",
        "model.batch_rows=5",
        "model.uri=models:/x/1",
        "model.trust=[pickle]",
        "model.tracking_uri=http://a",
        "tracking.experiment=e",
        "sinks.0.table=elsewhere",
        "features.match=exact",
    ],
)
def test_settings_leave_out_what_changes_no_score(load: Load, override: str) -> None:
    assert settings(load(overrides=[override])) == settings(load())


@pytest.mark.parametrize("labels", [("1", "true"), ("1", "'1'"), ("1", "1.0"), ("'true'", "true")])
def test_settings_tell_labels_of_different_types_apart(load: Load, labels: tuple[str, str]) -> None:
    one, other = (json.dumps(settings(load(overrides=[f"predictions.p.class={each}"]))) for each in labels)
    assert one != other


SETTINGS: list[tuple[dict[str, Any], str]] = [
    (
        {
            "source": {
                "type": "delta", "table": "lake/features/games", "where": "day = '2026-01-02'", "version": 3, "min_rows": 5
            },
            "slice": {"day": "2026-01-02"},
            "sinks": [{"type": "delta", "table": "lake/scores/games"}],
        },
        '{"keys": ["player_id"], "keep": [], "predictions": null, "slice": {"day": "2026-01-02"}, '
        '"features": {"rename": {}, "match": "exact", "nulls": "model", "tensor": []}, '
        '"checks": {"drift": null, "quarantine": {"table": null, "max_fraction": 0.01, '
        '"max_rows": null}}, "source": {"type": "delta", "table": "lake/features/games", '
        "\"where\": \"day = '2026-01-02'\"}, \"model\": {\"method\": null, \"params\": {}}, \"sinks\": [\"replace\"]}",
    ),
    (
        {
            "source": {
                "type": "snowflake", "connection": "prod", "table": "GAMES", "columns": ["PLAYER_ID", "AGE"],
                "timestamp": "2026-01-02T00:00:00Z",
            },
            "sinks": [{"type": "snowflake", "connection": "prod", "table": "SCORES", "write": "merge"}],
            "state": "s",
            "checks": {"quarantine": {"max_rows": 7}, "drift": {"psi": 0.3}},
        },
        '{"keys": ["player_id"], "keep": [], "predictions": null, "slice": {}, '
        '"features": {"rename": {}, "match": "case_insensitive", "nulls": "model", "tensor": []}, '
        '"checks": {"drift": {"psi": 0.3, "action": "warn"}, "quarantine": {"table": null, '
        '"max_fraction": 0.01, "max_rows": 7}}, "source": {"type": "snowflake", "table": "GAMES", '
        '"where": null, "connection": "prod", "columns": ["PLAYER_ID", "AGE"]}, '
        '"model": {"method": null, "params": {}}, "sinks": ["merge"]}',
    ),
    (
        {
            "source": {"type": "snowflake", "connection": "prod", "query": "SELECT * FROM GAMES"},
            "features": {"match": "exact", "cast": {"AGE": "double"}},
            "predictions": {"p": {"class": 1}},
            "keys_unique": "refuse",
            "sinks": [
                {"type": "delta", "table": "lake/scores/games"},
                {"type": "snowflake", "connection": "prod", "table": "SCORES"},
            ],
            "checks": {"strict": True},
        },
        '{"keys": ["player_id"], "keep": [], "predictions": {"p": {"output": null, "class": 1, '
        '"threshold": null}}, "slice": {}, "features": {"rename": {}, "match": "exact", '
        '"nulls": "model", "tensor": [], "cast": {"AGE": "double"}}, "checks": {"drift": null, '
        '"strict": true, "quarantine": {"table": null, "max_fraction": 0.01, "max_rows": null}}, '
        '"source": {"type": "snowflake", "table": null, "where": null, "connection": "prod", '
        '"query": "SELECT * FROM GAMES"}, "model": {"method": null, "params": {}}, "sinks": ["replace", '
        '"replace"], "keys_unique": "refuse"}',
    ),
]  # fmt: skip
"""What is digested into the fingerprints that tables already hold."""


@pytest.mark.parametrize(("sections", "text"), SETTINGS, ids=["delta", "table in snowflake", "query in snowflake"])
def test_the_settings_of_earlier_jobs_are_the_same_text(sections: Mapping[str, Any], text: str) -> None:
    job = Job.model_validate({key: MINIMAL[key] for key in ("job", "model", "keys")} | dict(sections))
    assert json.dumps(settings(job), sort_keys=True) == json.dumps(
        json.loads(text), sort_keys=True
    )  # as it is digested


# --- the schema -------------------------------------------------------------------------------------------


def sections(node: Any) -> list[dict[str, Any]]:
    """Every schema of a section with named keys, at any depth."""
    inner = [
        found
        for value in (node.values() if isinstance(node, dict) else node)
        if isinstance(value, (dict, list))
        for found in sections(value)
    ]
    return [node, *inner] if isinstance(node, dict) and isinstance(node.get("properties"), dict) else inner


def test_the_schema_is_closed_and_describes_every_key() -> None:
    schema = json_schema()
    assert (schema["$schema"], schema["title"]) == (
        "https://json-schema.org/draft/2020-12/schema",
        "lakehouse job file",
    )
    assert len(sections(schema)) == 22 + sum(len(models_of(kind)) for kind in (Source, Sink, Receiver, EventStream))
    for section in sections(schema):
        assert section["additionalProperties"] is False
        assert all(len(key["description"]) > 15 for key in section["properties"].values())


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        (
            {"predictions": {"a": 0, "b": "*", "c": {"class": "yes", "threshold": 0.5}, "d": {"output": 0}}},
            True,
        ),
        ({"predictions": {"a": True}}, False),
        ({"predictions": {"a": {"class": 1, "output": 0}}}, False),
        ({"predictions": {"a": {"class_": 1}}}, False),
        ({"job": "${JOB}", "features": {"match": "${MATCH}"}, "model": {"trust": ["${TRUST}"]}}, True),
        ({"job": "games {date}", "source": {"where": "day = '{date}'"}, "slice": {"day": "{date}"}}, True),
        ({"job": "games purchase"}, False),
        ({"features": {"match": "fuzzy"}}, False),
        ({"model": {"trust": ["pickle", "sha256:" + "0a" * 32]}}, True),
        ({"model": {"trust": ["pickel"]}}, False),
        ({"model": {"method": "${METHOD}"}}, True),
        ({"source": {"type": "${TYPE}"}}, True),
        ({"source": {"type": "snow"}}, False),
        ({"source": {"type": "snowflake", "connection": "c"}}, True),
        ({"source": {"query": "SELECT 1"}}, False),
        ({"sinks": [{"type": "delta", "table": "t", "connection": "c"}]}, False),
        ({"source": {"version": "3"}}, False),
        ({"slice": {"day": ""}}, False),
        ({"sinks": []}, False),
        ({"keys": []}, False),
        ({"tabel": 1}, False),
    ],
)
def test_the_schema_agrees_with_the_models(changes: Mapping[str, Any], valid: bool) -> None:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert jsonschema.Draft202012Validator(json_schema()).is_valid(deep_merge(MINIMAL, changes)) is valid


# --- the module -------------------------------------------------------------------------------------------


def test_importing_is_light() -> None:
    heavy = ["pyarrow", "pyspark", "pandas", "numpy", "mlflow", "deltalake", "great_expectations"]
    code = f"import sys, lakehouse.config; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"


def test_every_section_is_strict_frozen_and_closed() -> None:
    def below(model: type[BaseModel]) -> list[type[BaseModel]]:
        return [each for direct in model.__subclasses__() for each in (direct, *below(direct))]

    models = [model for model in below(Job.__mro__[1]) if model.__module__.startswith("lakehouse.")]
    assert len(models) == 27 + sum(
        len(models_of(kind)) for kind in (Source, Sink, Receiver, EventStream)
    )  # and what those are made of
    for model in models:
        config = model.model_config
        assert (config.get("frozen"), config.get("extra"), config.get("strict")) == (True, "forbid", True)
