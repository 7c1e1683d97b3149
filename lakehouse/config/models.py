"""What a job may say: one model a section; those of `source` and `sinks` are in `lakehouse.config.systems`."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lakehouse.config.consistency import problems_of
from lakehouse.config.messages import describe_value
from lakehouse.config.systems import OneOf, Sink, Source, models_of
from lakehouse.config.values import Param, Scalar, Section, SliceValue, Text, Texts, Trust, of_type, tuple_of

JOB_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


class Model(Section):
    """Which model scores the rows, and what about it is accepted."""

    uri: Text = Field(
        description="the MLflow model: models:/name@alias, models:/name/3, runs:/id/path",
        examples=["models:/churn@champion"],
    )
    method: Literal["predict", "predict_proba"] | None = Field(
        None, description="the native method to call, for flavours that have several", examples=["predict_proba"]
    )
    params: dict[Text, Param] = Field(
        {}, description="inference parameters handed to the model", examples=[{"num_beams": 4}]
    )
    batch_rows: int = Field(
        65536, ge=1, le=10_000_000, description="at most this many rows a call of the model", examples=[4096]
    )
    trust: Annotated[tuple[Trust, ...], tuple_of()] = Field(
        (),
        description="what is accepted beyond safe formats: pickle, code, python_function, sha256:<digest>",
        examples=[["pickle"]],
    )
    environment: Literal["strict", "warn"] = Field(
        "strict",
        description="another Python or library than the model was logged with: refused (exit 4), or a warning",
        examples=["warn"],
    )
    tracking_uri: Text | None = Field(
        None, description="MLflow tracking server; default: as MLflow finds it", examples=["sqlite:///lake/mlflow.db"]
    )
    registry_uri: Text | None = Field(
        None, description="MLflow model registry; default: as MLflow finds it", examples=["databricks-uc"]
    )


class Prediction(Section):
    """One column of the scored table: which part of the model's output it is."""

    output: Annotated[int | str | None, of_type(int, str, type(None))] = Field(
        None,
        description='part of the output: a column number, the name of an output, or "*" for the whole',
        examples=["probability"],
    )
    class_: Annotated[Scalar | None, of_type(bool, int, float, str, type(None))] = Field(
        None, alias="class", description="the class label whose probability is taken", examples=[1]
    )
    threshold: float | None = Field(None, description="makes it a boolean: true from this value on", examples=[0.5])

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, (dict, cls)):
            return value
        if type(value) in (int, str):
            return {"output": value}
        forms = 'a column number, an output\'s name, "*" or {class: label}'
        raise ValueError(f"must be {forms}, not {describe_value(value)}")

    @model_validator(mode="after")
    def _one_part(self) -> Prediction:
        if (self.output is None) == (self.class_ is None):
            raise ValueError("give exactly one of output and class")
        if self.output == "" or (isinstance(self.output, int) and self.output < 0):
            raise ValueError(f"output must be a column number from 0 on or a name, not {self.output!r}")
        return self


class Features(Section):
    """How the table's columns become the model's features."""

    rename: dict[Text, Text] = Field(
        {}, description="feature of the model: column of the table", examples=[{"income": "yearly_income"}]
    )
    match: Literal["exact", "case_insensitive"] = Field(
        "exact", description="how column names are compared", examples=["case_insensitive"]
    )
    nulls: Literal["model", "quarantine"] = Field(
        "model",
        description="a null, NaN or infinity in a required feature: handed to the model, or its row set aside",
        examples=["quarantine"],
    )
    tensor: Texts = Field(
        (),
        description="columns stacked, in this order, into the model's one tensor input, or one that holds lists",
        examples=[["x0", "x1", "x2"]],
    )
    cast: dict[Text, Literal["boolean", "integer", "long", "float", "double", "string", "datetime"]] = Field(
        {},
        description="feature or column: the type its values are cast to; a row whose value is not one is set aside",
        examples=[{"income": "double"}],
    )


class Quarantine(Section):
    """Where rows that can't be scored go, and how many may."""

    table: Text | None = Field(
        None,
        description="default: the first sink's table with _quarantine appended",
        examples=["lake/quarantine/games"],
    )
    max_fraction: float = Field(
        0.01, ge=0, le=1, description="a larger fraction of the rows blocks the run", examples=[0.001]
    )
    max_rows: int | None = Field(None, ge=0, description="more rows than this block the run", examples=[1000])

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


class Drift(Section):
    """How far features and predictions may move from what the model was trained, or first published, with."""

    psi: float = Field(0.2, gt=0, description="a population stability index above this is drift", examples=[0.1])
    action: Literal["warn", "block"] = Field(
        "warn", description="what drift does: publish with a warning, or block", examples=["block"]
    )


class Checks(Section):
    """What must hold before anything is published."""

    features: Text | None = Field(
        None,
        description="Great Expectations suite (YAML or JSON) for the input rows",
        examples=["conf/expectations/games_features.yaml"],
    )
    scores: Text | None = Field(
        None,
        description="Great Expectations suite (YAML or JSON) for the scored rows",
        examples=["conf/expectations/games_scores.yaml"],
    )
    drift: Drift | None = Field(None, description="how far features and predictions may move")
    strict: bool = Field(
        False,
        description="a row that breaks a critical rule blocks the run, as Great Expectations reads it",
        examples=[True],
    )
    quarantine: Quarantine = Field(default_factory=Quarantine, description="rows set aside with their reasons")


class Tracking(Section):
    """The MLflow run that gets the figures of each run."""

    experiment: Text = Field(
        description="the MLflow experiment that gets a run with the figures", examples=["/Shared/churn"]
    )


class Job(Section):
    """One scoring job: what is read, which model scores it, and what is published where."""

    job: Annotated[str, Field(pattern=JOB_NAME)] = Field(
        description="the job's identity: with the slice it names the transaction, so it never changes",
        examples=["churn_daily"],
    )
    source: Annotated[Source, OneOf()] = Field(description="where the rows to score are read")
    model: Model = Field(description="which model scores them")
    keys: Annotated[tuple[Text, ...], tuple_of("column that identifies a row")] = Field(
        description="the columns that identify a row, passed through to the scored table",
        examples=[["customer_id"]],
        json_schema_extra={"minItems": 1},
    )
    keys_unique: Literal["refuse", "warn", "ignore"] = Field(
        "warn",
        description="a key that several scored rows have: blocks the run, is warned of, or isn't looked for",
        examples=["refuse"],
    )
    keep: Texts = Field((), description="further columns passed through to the scored table", examples=[["country"]])
    predictions: dict[Text, Prediction] | None = Field(
        None,
        description="columns of the scored table; default: the names in the model's output signature",
        examples=[{"churn": {"class": 1}, "label": 0}],
    )
    slice: dict[Text, SliceValue] = Field(
        {},
        description="partition columns and the values this run replaces; left out: the whole table",
        examples=[{"score_date": "{date}"}],
    )
    features: Features = Field(
        default_factory=Features, description="how the table's columns become the model's features"
    )
    checks: Checks = Field(default_factory=Checks, description="what must hold before anything is published")
    sinks: Annotated[tuple[Annotated[Sink, OneOf()], ...], tuple_of("table to publish to")] = Field(
        description="the tables the scores are published to, in this order", json_schema_extra={"minItems": 1}
    )
    state: Text | None = Field(
        None, description="where run state lives; default: beside the Delta sink's table", examples=["lake/state"]
    )
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
        return next((sink for sink in self.sinks if sink.HOLDS_STAGED_FILES), None)

    @model_validator(mode="before")
    @classmethod
    def _match_of_the_source(cls, value: Any) -> Any:
        """Names are compared without case where the source's system does, unless the job says so."""
        source = value.get("source") if isinstance(value, dict) else None
        type_ = source.get("type") if isinstance(source, dict) else getattr(source, "type", None)
        known = models_of(Source).get(type_) if isinstance(type_, str) else None
        if known is None or not known.CASELESS:
            return value
        features = value.get("features") or {}
        return {**value, "features": {"match": "case_insensitive", **features}} if isinstance(features, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Job:
        problems = problems_of(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self
