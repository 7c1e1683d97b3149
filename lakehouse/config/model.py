"""What a job says of the model: which, what it takes and what it gives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lakehouse.config.challengers import Challenger
from lakehouse.config.messages import describe_value
from lakehouse.config.signature import Signature
from lakehouse.config.values import Param, Scalar, Section, Text, Texts, Trust, columns_of_tensors, of_type, tuple_of


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
