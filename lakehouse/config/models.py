"""What a job may say: one model a section, and the checks across sections."""

from __future__ import annotations

import datetime as dt
import math
import posixpath
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from lakehouse.config.messages import KINDS, seen
from lakehouse.errors import nearest

TRUST = ("pickle", "code", "python_function")
JOB_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
_DIGEST = r"sha256:[0-9a-f]{64}"


def _exactly(*types: type) -> BeforeValidator:
    """Accept values of these very types: one line for one mistake in a union, and no bool as an int."""
    wanted = " or ".join(KINDS[kind] for kind in types if kind in KINDS)

    def check(value: object) -> object:
        if type(value) not in types:
            raise ValueError(f"must be {wanted}, not {seen(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"must be a finite number, not {value}")
        return value

    return BeforeValidator(check)


def _listed(of: str = "") -> BeforeValidator:
    """Take a YAML list as a tuple, since strict pydantic does not; with `of`, a list of at least one of it."""

    def check(value: object) -> object:
        if not isinstance(value, (list, tuple)):
            hint = f": write [{value}]" if isinstance(value, str) else ""
            raise ValueError(f"must be a list, not {seen(value)}{hint}")
        if of and not value:
            raise ValueError(f"name at least one {of}")
        return tuple(value)

    return BeforeValidator(check)


def _param(value: object) -> object:
    for item in value if isinstance(value, list) else [value]:
        if type(item) not in (bool, int, float, str):
            raise ValueError(f"must be a single value or a list of single values, not {seen(item)}")
    return value


def _filled(value: object) -> object:
    if value == "":
        raise ValueError("must not be empty: a slice value names what this run replaces")
    return value


def _trusted(value: str) -> str:
    if value in TRUST or re.fullmatch(_DIGEST, value):
        return value
    if value.startswith("sha256"):
        raise ValueError(f"must be sha256: and 64 lower-case hexadecimal digits, not {value!r}")
    raise ValueError(f"{value!r} can't be trusted, {nearest(value, (*TRUST, 'sha256:<digest>'))}")


Scalar = bool | int | float | str
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], _listed()]
SliceValue = Annotated[
    bool | int | str | dt.date,
    BeforeValidator(_filled),
    _exactly(str, int, bool, dt.date),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}, {"type": "boolean"}]}),
]
Param = Annotated[Scalar | list[Scalar], BeforeValidator(_param)]
Trust = Annotated[
    str, AfterValidator(_trusted), WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(TRUST)}|{_DIGEST})$"})
]


class _Section(BaseModel):
    # by name: Prediction(class_=1) in code; load_job turns it off for files
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_by_name=True, defer_build=True
    )


def _only_snowflake(section: Source | Sink, *keys: str) -> None:
    for key in keys:
        if getattr(section, key):
            raise ValueError(f"{key}: only with type: snowflake")


def _needs_connection(section: Source | Sink) -> None:
    if section.connection is None:
        raise ValueError("connection is missing: the name of a connection in connections.toml")


class Source(_Section):
    """Where the rows to score are read."""

    type: Literal["delta", "snowflake"] = Field(description="the system the input is in")
    connection: Text | None = Field(None, description="snowflake: the connection's name in connections.toml")
    table: Text | None = Field(None, description="the input table: a path or URI, or its name in Snowflake")
    query: Text | None = Field(None, description="snowflake: a SELECT instead of a table; may use {date}")
    columns: Texts = Field((), description="snowflake: only these columns may be read; default: all")
    where: Text | None = Field(None, description="SQL condition on the rows to score; may use {date}")
    version: int | None = Field(None, ge=0, description="read this version of the table; default: the newest")
    timestamp: Text | None = Field(None, description="read the table as of this time (ISO 8601)")
    min_rows: int = Field(1, ge=0, description="with fewer rows the input is not ready (exit 6)")

    @property
    def name(self) -> str:
        """What is read, for people."""
        return self.table or f"the query on {self.connection}"

    @model_validator(mode="after")
    def _of_its_type(self) -> Source:
        if self.version is not None and self.timestamp is not None:
            raise ValueError("version and timestamp exclude each other: give one of them")
        if self.type == "delta":
            _only_snowflake(self, "connection", "query", "columns")
            if self.table is None:
                raise ValueError("table is missing: the input table, a path or URI")
            return self
        _needs_connection(self)
        if (self.table is None) == (self.query is None):
            raise ValueError("give exactly one of table and query")
        if self.version is not None:
            raise ValueError("version: a table in Snowflake has none; timestamp reads it as of a time")
        if self.query is not None and self.timestamp is not None:
            raise ValueError("timestamp: with a query, write AT(TIMESTAMP => …) into it")
        return self


class Model(_Section):
    """Which model scores the rows, and what about it is accepted."""

    uri: Text = Field(description="the MLflow model: models:/name@alias, models:/name/3, runs:/id/path")
    method: Literal["predict", "predict_proba"] | None = Field(
        None, description="the native method to call, for flavours that have several"
    )
    params: dict[Text, Param] = Field({}, description="inference parameters handed to the model")
    batch_rows: int = Field(65536, ge=1, le=10_000_000, description="at most this many rows a call of the model")
    trust: Annotated[tuple[Trust, ...], _listed()] = Field(
        (), description="what is accepted beyond safe formats: pickle, code, python_function, sha256:<digest>"
    )
    tracking_uri: Text | None = Field(None, description="MLflow tracking server; default: as MLflow finds it")
    registry_uri: Text | None = Field(None, description="MLflow model registry; default: as MLflow finds it")


class Prediction(_Section):
    """One column of the scored table: which part of the model's output it is."""

    output: Annotated[int | str | None, _exactly(int, str, type(None))] = Field(
        None, description='part of the output: a column number, the name of an output, or "*" for the whole'
    )
    class_: Annotated[Scalar | None, _exactly(bool, int, float, str, type(None))] = Field(
        None, alias="class", description="the class label whose probability is taken"
    )
    threshold: float | None = Field(None, description="makes it a boolean: true from this value on")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, (dict, cls)):
            return value
        if type(value) in (int, str):
            return {"output": value}
        forms = 'a column number, an output\'s name, "*" or {class: label}'
        raise ValueError(f"must be {forms}, not {seen(value)}")

    @model_validator(mode="after")
    def _one_part(self) -> Prediction:
        if (self.output is None) == (self.class_ is None):
            raise ValueError("give exactly one of output and class")
        if self.output == "" or (isinstance(self.output, int) and self.output < 0):
            raise ValueError(f"output must be a column number from 0 on or a name, not {self.output!r}")
        return self


class Features(_Section):
    """How the table's columns become the model's features."""

    rename: dict[Text, Text] = Field({}, description="feature of the model: column of the table")
    match: Literal["exact", "case_insensitive"] = Field("exact", description="how column names are compared")
    nulls: Literal["model", "quarantine"] = Field(
        "model", description="a null, NaN or infinity in a required feature: handed to the model, or its row set aside"
    )
    tensor: Texts = Field(
        (), description="columns stacked, in this order, into the model's one tensor input, or one that holds lists"
    )
    cast: dict[Text, Literal["boolean", "integer", "long", "float", "double", "string", "datetime"]] = Field(
        {}, description="feature or column: the type its values are cast to; a row whose value is not one is set aside"
    )


class Quarantine(_Section):
    """Where rows that can't be scored go, and how many may."""

    table: Text | None = Field(None, description="default: the first sink's table with _quarantine appended")
    max_fraction: float = Field(0.01, ge=0, le=1, description="a larger fraction of the rows blocks the run")
    max_rows: int | None = Field(None, ge=0, description="more rows than this block the run")

    @property
    def limit(self) -> str:
        """The budget as the job says it."""
        rows = "" if self.max_rows is None else f", max_rows {self.max_rows:,}"
        return f"max_fraction {self.max_fraction:g}{rows}"

    def allowed(self, rows: int | None) -> int | None:
        """How many of so many rows may be set aside; None where their number isn't known and nothing else limits it."""
        if rows is None:
            return self.max_rows
        share = int(Fraction(str(self.max_fraction)) * rows)  # 0.29 * 100 is 28.999… in binary
        return share if self.max_rows is None else min(share, self.max_rows)


class Drift(_Section):
    """How far features and predictions may move from what the model was trained, or first published, with."""

    psi: float = Field(0.2, gt=0, description="a population stability index above this is drift")
    action: Literal["warn", "block"] = Field("warn", description="what drift does: publish with a warning, or block")


class Checks(_Section):
    """What must hold before anything is published."""

    features: Text | None = Field(None, description="Great Expectations suite (YAML or JSON) for the input rows")
    scores: Text | None = Field(None, description="Great Expectations suite (YAML or JSON) for the scored rows")
    drift: Drift | None = Field(None, description="how far features and predictions may move")
    strict: bool = Field(
        False, description="a row that breaks a critical rule blocks the run, as Great Expectations reads it"
    )
    quarantine: Quarantine = Field(default_factory=Quarantine, description="rows set aside with their reasons")


class Sink(_Section):
    """A table that the scores are published to."""

    type: Literal["delta", "snowflake"] = Field(description="the system the table is in")
    connection: Text | None = Field(None, description="snowflake: the connection's name in connections.toml")
    table: Text = Field(description="the scored table: a path or URI, or its name in Snowflake")
    write: Literal["replace", "append", "merge"] = Field(
        "replace",
        description="replace the slice (or the whole table), append this date's rows once, or merge (upsert on keys)",
    )

    @model_validator(mode="after")
    def _of_its_type(self) -> Sink:
        if self.type == "delta":
            _only_snowflake(self, "connection")
        else:
            _needs_connection(self)
        return self


class Tracking(_Section):
    """The MLflow run that gets the figures of each run."""

    experiment: Text = Field(description="the MLflow experiment that gets a run with the figures")


class Job(_Section):
    """One scoring job: what is read, which model scores it, and what is published where."""

    job: Annotated[str, Field(pattern=JOB_NAME)] = Field(
        description="the job's identity: with the slice it names the transaction, so it never changes"
    )
    source: Source = Field(description="where the rows to score are read")
    model: Model = Field(description="which model scores them")
    keys: Annotated[tuple[Text, ...], _listed("column that identifies a row")] = Field(
        description="the columns that identify a row, passed through to the scored table",
        json_schema_extra={"minItems": 1},
    )
    keys_unique: Literal["refuse", "warn", "ignore"] = Field(
        "warn", description="a key that several scored rows have: blocks the run, is warned of, or isn't looked for"
    )
    keep: Texts = Field((), description="further columns passed through to the scored table")
    predictions: dict[Text, Prediction] | None = Field(
        None, description="columns of the scored table; default: the names in the model's output signature"
    )
    slice: dict[Text, SliceValue] = Field(
        {}, description="partition columns and the values this run replaces; left out: the whole table"
    )
    features: Features = Field(
        default_factory=Features, description="how the table's columns become the model's features"
    )
    checks: Checks = Field(default_factory=Checks, description="what must hold before anything is published")
    sinks: Annotated[tuple[Sink, ...], _listed("table to publish to")] = Field(
        description="the tables the scores are published to, in this order", json_schema_extra={"minItems": 1}
    )
    state: Text | None = Field(None, description="where run state lives; default: beside the Delta sink's table")
    tracking: Tracking | None = Field(None, description="log the figures of each run to MLflow")

    _date: str | None = None
    _path: str = ""

    @property
    def date(self) -> str | None:
        """The run's logical date (YYYY-MM-DD), given beside the file and never in it."""
        return self._date

    @property
    def path(self) -> str:
        """The job file as it was named; empty for a job made in code."""
        return self._path

    @property
    def delta_sink(self) -> Sink | None:
        """The sink whose table's folder the staged files lie in, where there is one."""
        return next((sink for sink in self.sinks if sink.type == "delta"), None)

    @model_validator(mode="before")
    @classmethod
    def _names_of_snowflake(cls, value: Any) -> Any:
        """Snowflake keeps unquoted names in upper case, so case plays no part there unless the job says so."""
        source = value.get("source") if isinstance(value, dict) else None
        if (source.get("type") if isinstance(source, dict) else getattr(source, "type", None)) != "snowflake":
            return value
        features = value.get("features") or {}
        return {**value, "features": {"match": "case_insensitive", **features}} if isinstance(features, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Job:
        problems = [*_name_problems(self), *(list(_table_problems(self)) or _sink_problems(self))]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _name_problems(job: Job) -> Iterator[str]:
    """Columns of the scored table that clash, without regard to case as in Spark, or take a lineage name."""
    given = [("keys", name) for name in job.keys] + [("keep", name) for name in job.keep]
    computed = [("predictions", name) for name in job.predictions or ()]
    computed += [("slice", name) for name in job.slice]
    taken: dict[str, str] = {}
    for section, name in given + computed:
        if name.lower() in taken:
            yield f"{section}: {name!r} is already a column of the scored table, by {taken[name.lower()]}"
        taken.setdefault(name.lower(), f"{section} ({name!r})")
    for section, name in computed:
        if name.startswith("_"):
            yield f"{section}: {name!r} begins with '_', as only lineage columns may"
    for section, name in given:
        if name.startswith("_") and name.lower() in _lineage():
            yield f"{section}: {name!r} is the name of a lineage column: rename it in the input"
    if job.predictions == {}:
        yield "predictions: name at least one column, or leave the section out"


def _lineage() -> set[str]:
    from lakehouse.schemas import LINEAGE, REASONS  # here, since it imports pyarrow, which takes its time

    return {*LINEAGE.names, REASONS}


def _table_problems(job: Job) -> Iterator[str]:
    """Sinks that would write over the input, the quarantine or one another, and appends that have a slice."""
    taken: dict[str, str] = {}
    if job.source.table is not None:
        taken[_table_key(job.source.table, job.source)] = "source.table"
    if job.checks.quarantine.table is not None:
        taken[_table_key(job.checks.quarantine.table, job.sinks[0])] = "checks.quarantine.table"
    for number, sink in enumerate(job.sinks):
        key = _table_key(sink.table, sink)
        if key in taken:
            yield f"sinks.{number}.table: {sink.table!r} is also {taken[key]}"
        taken.setdefault(key, f"sinks.{number}.table")
        if sink.write == "append" and job.slice:
            yield f"sinks.{number}.write: append needs a job without slice; with one, use replace"


def _table_key(table: str, section: Source | Sink) -> str:
    if section.type == "snowflake":
        return f"{section.connection}:{table.upper()}"
    return table.rstrip("/") if "://" in table else posixpath.normpath(table)


def _sink_problems(job: Job) -> Iterator[str]:
    """What can't be published together, and where run state would have no place."""
    if len({sink.write for sink in job.sinks}) > 1:
        yield "sinks: all must be written in one way (write), since one run fills them all"
    if sum(sink.type == "delta" for sink in job.sinks) > 1:
        yield "sinks: one Delta table at most, since the staged files become its own; copy it, or give it a job"
    if job.delta_sink is None and job.state is None:
        yield "state: missing, a folder for staged files and run records: there is no Delta sink to keep it beside"
