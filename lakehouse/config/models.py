"""What a job may say: one model a section; those of `source` and `sinks` are in `lakehouse.config.systems`."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lakehouse.config.consistency import problems_of
from lakehouse.config.messages import describe_value
from lakehouse.config.signature import Signature
from lakehouse.config.systems import OneOf, Receiver, Sink, Source, models_of
from lakehouse.config.values import (
    Days,
    Param,
    Scalar,
    Secret,
    Section,
    SliceValue,
    Text,
    Texts,
    Trust,
    columns_of_tensors,
    of_type,
    tuple_of,
)

JOB_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


class Challenger(Section):
    """Another model that is given the same rows, to be compared with the one whose scores are published."""

    uri: Text = Field(description="the challenger, as `model.uri`", examples=["models:/churn@challenger"])
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] | None = Field(
        None,
        description="ends the names of its columns; default: its alias, else v and its version",
        examples=["wider"],
    )
    method: Literal["predict", "predict_proba", "predict_log_proba", "decision_function", "pyfunc"] | None = Field(
        None,
        description="as `model.method`, or pyfunc for one without such methods; default: the model's own",
        examples=["pyfunc"],
    )
    params: dict[Text, Param] | None = Field(
        None, description="as `model.params`; default: the model's own", examples=[{"num_beams": 4}]
    )
    trust: Annotated[tuple[Trust, ...], tuple_of()] | None = Field(
        None, description="as `model.trust`; default: the model's own", examples=[["pickle"]]
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"uri": value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """What its columns end in."""
        if self.name is not None:
            return self.name
        place = self.uri.removeprefix("models:")
        alias = re.sub(r"[^A-Za-z0-9]+", "_", place.rpartition("@")[2] if "@" in place else place.rpartition("/")[2])
        return alias if alias[:1].isalpha() else f"v{alias}"


class SignedBy(Section):
    """Who must have signed the model's files, as OpenSSF Model Signing does, in a file model.sig among them."""

    key: Text = Field(description="the signer's public key, on an elliptic curve, as PEM", examples=["keys/team.pub"])


class Isolation(Section):
    """How the environment of an isolated model is built, and where it is kept."""

    python: Text | None = Field(
        None,
        description="the Python that it runs on, of the model's minor version; default: one that is found",
        examples=["/usr/bin/python3.12"],
    )
    index: Text | None = Field(
        None,
        description="the package index; default: the installer's own",
        examples=["https://pypi.example.com/simple"],
    )
    accept: Texts = Field(
        (),
        description="lines of the model's requirements, or sources of its uv.lock, that are accepted although they "
        "name another place than the index",
        examples=[["--extra-index-url https://wheels.example.com"]],
    )
    builds: Literal["refused", "allowed"] = Field(
        "refused",
        description="packages without a wheel: refused, or built, which runs code of theirs on the driver",
        examples=["allowed"],
    )
    cache: Text | None = Field(
        None,
        description="where built environments are kept, a folder or a place on the lake; default: the user's cache",
        examples=["s3://lake/environments"],
    )


class Model(Section):
    """Which model scores the rows, and what about it is accepted."""

    uri: Text = Field(
        description="the MLflow model: models:/name@alias, models:/name/3, runs:/id/path",
        examples=["models:/churn@champion"],
    )
    by: Text | None = Field(
        None,
        description="a column with texts or integers, each of whose values has a model of its own: `uri` names them "
        "with the column's name in braces, models:/churn_{segment}@champion",
        examples=["segment"],
    )
    missing: Literal["quarantine", "refuse"] = Field(
        "quarantine",
        description="rows whose value of `by` is null or has no model: set aside as no_model, or the run refused "
        "(exit 4)",
        examples=["refuse"],
    )
    method: Literal["predict", "predict_proba", "predict_log_proba", "decision_function"] | None = Field(
        None, description="the native method to call, for flavours that have several", examples=["predict_proba"]
    )
    params: dict[Text, Param] = Field(
        {}, description="inference parameters handed to the model", examples=[{"num_beams": 4}]
    )
    signature: Signature | None = Field(
        None, description="what a model takes and gives that was logged without a signature"
    )
    batch_rows: int = Field(
        65536,
        ge=1,
        le=10_000_000,
        description="at most this many rows a call of the model; fewer where they have more than 64 MB",
        examples=[4096],
    )
    trust: Annotated[tuple[Trust, ...], tuple_of()] = Field(
        (),
        description="what is accepted beyond safe formats: pickle, code, python_function, type:<type>, sha256:<digest>",
        examples=[["pickle"]],
    )
    challengers: Annotated[tuple[Challenger, ...], tuple_of()] = Field(
        (),
        description="models that are given the same rows in the same pass, to be compared with it",
        examples=[["models:/churn@challenger"]],
    )
    signed_by: SignedBy | None = Field(
        None, description="who must have signed the model's files; a file that differs is refused"
    )
    environment: Literal["strict", "warn", "isolated"] = Field(
        "strict",
        description="another Python or library than the model was logged with: refused (exit 4), or a warning; "
        "isolated: the model runs in an environment of its own, built as its files say",
        examples=["isolated"],
    )
    isolation: Isolation = Field(
        default_factory=Isolation, description="how the environment of an isolated model is built, and where it is kept"
    )
    tracking_uri: Text | None = Field(
        None, description="MLflow tracking server; default: as MLflow finds it", examples=["sqlite:///lake/mlflow.db"]
    )
    registry_uri: Text | None = Field(
        None, description="MLflow model registry; default: as MLflow finds it", examples=["databricks-uc"]
    )
    offline: Literal["refused", "allowed"] = Field(
        "refused",
        description="where the registry does not answer: refuse, or use the version last fetched for this URI",
        examples=["allowed"],
    )
    cache: Text | None = Field(
        None,
        description="folder on this machine of the versions that offline keeps; default: in the user's cache",
        examples=["/var/cache/lakehouse/models"],
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
    tensor: Annotated[Texts | dict[Text, Text | Texts], columns_of_tensors()] = Field(
        (),
        description="columns stacked, in this order, into the model's tensor, or one that holds lists; for several "
        "tensors: the name of each with its columns",
        examples=[["x0", "x1", "x2"]],
    )
    reshape: Texts = Field(
        (),
        description="columns of flat lists that are laid, the last dimension's values side by side, into the shape of "
        "their tensor",
        examples=[["pixels"]],
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
    tag_versions: bool = Field(
        True, description="tag the model version with the job's last run of it: last_run.<job>", examples=[False]
    )


class Retention(Section):
    """How long what runs leave behind is kept; `lakehouse maintain` takes away what is older."""

    runs: Days | None = Field(
        None,
        description="records, figures and reports of runs of which nothing lives any more; default: for ever",
        examples=["400 days"],
    )
    files: Days | None = Field(
        None,
        description="files that were replaced in the job's Delta tables, for rollback and time travel: at least so "
        "long; default: as long as the table says (`delta.deletedFileRetentionDuration`), else a week",
        examples=["30 days"],
    )

    @property
    def age(self) -> timedelta | None:
        """How long records are kept."""
        return _days(self.runs)

    @property
    def files_for(self) -> timedelta | None:
        """How long files are kept at least; None where that is left to the table."""
        return _days(self.files)


def _days(text: str | None) -> timedelta | None:
    return None if text is None else timedelta(days=int(text.split(" ")[0]))


class Comparison(Section):
    """Where the scores of challengers go, and what they are compared by."""

    table: Text | None = Field(
        None,
        description="the table of comparisons; default: beside the first sink's, with `_challengers` to its name",
        examples=["lake/scores/games_challengers"],
    )
    by: Text | None = Field(
        None,
        description="a key or kept column: figures are also given for each of its values, of which 200 are kept apart "
        "(of the others together, and `promotion.max_shift` then refuses)",
        examples=["country"],
    )


class Promotion(Section):
    """What `lakehouse promote` asks of the last comparison before it moves the alias."""

    min_rows: int = Field(1, ge=1, description="rows that were compared", examples=[10000])
    max_failed: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of the rows that the challenger could not score", examples=[0.001]
    )
    max_flips: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="share of the rows that get another label or decision", examples=[0.02]
    )
    max_shift: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="how far the mean of a numeric prediction may move, overall and in each segment",
        examples=[0.05],
    )


class Explained(Section):
    """Which rows are explained, by their prediction."""

    rule: Literal["always", "near_threshold"] | None = Field(
        None,
        description="all, or those near the threshold of a decision; the short form is this alone",
        examples=["near_threshold"],
    )
    above: float | None = Field(None, description="from this value on", examples=[0.8])
    below: float | None = Field(None, description="up to this value", examples=[0.2])

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, (dict, cls)):
            return value
        if value in ("always", "near_threshold"):
            return {"rule": value}
        raise ValueError(f"must be always, near_threshold or {{above: a number}}, not {describe_value(value)}")

    @model_validator(mode="after")
    def _one_way(self) -> Explained:
        bounded = self.above is not None or self.below is not None
        if bounded == (self.rule is not None):
            raise ValueError("give always, near_threshold, or one or both of above and below")
        return self


class Explanations(Section):
    """Which rows say why they have their score."""

    top: int = Field(3, ge=1, le=50, description="features a row, those that contributed most", examples=[5])
    when: Explained = Field(
        "always",
        validate_default=True,
        description="which rows: `always` all, `near_threshold` those near the threshold of a decision, or those whose "
        "prediction is `{above: 0.8}`, `{below: 0.2}` or both",
        examples=[{"above": 0.8}],
    )
    within: Annotated[float, Field(gt=0)] = Field(
        0.05, description="how near the threshold near_threshold is", examples=[0.02]
    )
    of: Text | None = Field(
        None, description="the prediction that is explained; default: the first that is a number", examples=["churn"]
    )


class Receipts(Section):
    """What makes each score provable to somebody who has no access to the lake."""

    sign: Text = Field(
        description="the file (PEM) of the Ed25519 private key that runs are signed with; `openssl genpkey -algorithm "
        "ed25519 -out receipts.pem` makes one",
        examples=["${RECEIPTS_KEY_FILE}"],
    )

    @field_validator("sign")
    @classmethod
    def _a_file(cls, value: str) -> str:
        if "-----BEGIN" in value:
            raise ValueError("is a key itself: name the file that it is in, and keep the key out of job files")
        return value


class Publish(Section):
    """When a run waits for a person before it is published."""

    hold: Literal["when_drifted", "when_model_changed", "always"] | None = Field(
        None,
        description="such a run is held: scored and checked, and committed only by `lakehouse publish`; when_drifted: "
        "beyond `checks.drift.psi`; when_model_changed: the last published run of the job had another model",
        examples=["when_model_changed"],
    )
    hold_days: int = Field(
        7,
        ge=1,
        description="a held run can be published for so many days; VACUUM may take its files after 7",
        examples=[3],
    )


class Metrics(Section):
    """Where the figures of the job's last run go, for monitoring to read; lakehouse/observe/README.md lists them."""

    textfile: Text | None = Field(
        None,
        description="the folder on this machine that node exporter's textfile collector reads: a file a job",
        examples=["/var/lib/node_exporter/textfile"],
    )
    pushgateway: Secret | None = Field(
        None,
        description="a Pushgateway's address; one with a login in it is a secret, named by a variable of the "
        "environment",
        examples=["http://pushgateway.example.com:9091"],
    )

    @model_validator(mode="after")
    def _somewhere(self) -> Metrics:
        if self.textfile is None and self.pushgateway is None:
            raise ValueError("give textfile, pushgateway or both")
        return self


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
