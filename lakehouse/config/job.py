"""What a job may say: a class a section; those of `source`, `sinks` and `notify` are in `lakehouse.config.systems`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lakehouse.config.challengers import Comparison, Promotion
from lakehouse.config.checks import Checks
from lakehouse.config.consistency import problems_of
from lakehouse.config.model import Features, Model, Prediction
from lakehouse.config.records import Explanations, Metrics, Publish, Receipts, Retention, Tracking
from lakehouse.config.systems import EventStream, OneOf, Receiver, Sink, Source, models_of
from lakehouse.config.values import Section, SliceValue, Text, Texts, tuple_of

JOB_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


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
    retention: Retention = Field(default_factory=Retention, description="how long what runs leave behind is kept")
    comparison: Comparison = Field(
        default_factory=Comparison, description="where the scores of challengers go, and what they are compared by"
    )
    promotion: Promotion | None = Field(None, description="what a challenger must show before it is promoted")
    explanations: Explanations | None = Field(
        None, description="writes which features contributed most to a score into the column `_explanations`"
    )
    receipts: Receipts | None = Field(
        None,
        description="each run signs the Merkle root of its scored rows, from which `lakehouse prove` makes proofs of "
        "single scores; adds the column `_feature_digest`",
    )
    publish: Publish = Field(
        default_factory=Publish, description="when a run waits for a person before it is published"
    )
    tracking: Tracking | None = Field(None, description="log the figures of each run to MLflow")
    metrics: Metrics | None = Field(None, description="where the figures of each run go for monitoring")
    notify: Annotated[tuple[Annotated[Receiver, OneOf()], ...], tuple_of()] = Field(
        (), description="who is told how a run ended; what can't be reached costs a warning"
    )

    publish_events: Annotated[tuple[Annotated[EventStream, OneOf()], ...], tuple_of()] = Field(
        (), description="streams that get events of each run after its commits, each at least once, with an id"
    )

    _date: str | None = None
    _dated: bool = True
    _path: str = ""

    @property
    def date(self) -> str | None:
        """The run's logical date (YYYY-MM-DD), given beside the file and never in it."""
        return self._date

    @property
    def is_dated(self) -> bool:
        """Whether the date is filled in anywhere in the job file; of a job made in code nobody knows."""
        return self._dated

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
