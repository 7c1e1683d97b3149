"""What a job says of what is kept, shown and told of its runs, and of when they are published."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lakehouse.config.messages import describe_value
from lakehouse.config.values import Days, Secret, Section, Text, fault_of_address


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
        if self.pushgateway and (fault := fault_of_address(self.pushgateway.get_secret_value(), login=True)):
            raise ValueError(f"pushgateway: {fault}")
        return self
