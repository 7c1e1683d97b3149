"""What a page is made from: plain JSON about one run. Any part may be missing or null; the page leaves it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class ModelFacts(TypedDict, total=False):
    """The model version that scored, with the flavour and the library that it was called by."""

    name: str
    version: str | int
    digest: str
    flavor: str
    library: str
    called: str
    uri: str
    count: int | None


class ModelsFacts(TypedDict):
    """The models of a run where a column says which one a row is for; `listed`: value, name, version, digest, rows
    scored; `missing`: rows that have none."""

    by: str
    listed: Sequence[Sequence[str | int]]
    missing: int


class Input(TypedDict, total=False):
    """The pinned input."""

    table: str
    version: int | str
    where: str | None


class SinkFacts(TypedDict, total=False):
    """A table that was written: kind "sink" or "quarantine"."""

    type: str
    table: str
    version: int | str | None
    kind: str


class Reason(TypedDict, total=False):
    """Why rows were set aside, and how many; a row may have several reasons."""

    rule: str
    column: str | None
    rows: int


class Rule(TypedDict, total=False):
    """A rule and what it found. way: "row", "table" or "GX"; success is null where it wasn't evaluated."""

    suite: str
    name: str
    type: str
    column: str | None
    kwargs: Mapping[str, Any]
    severity: str
    success: bool | None
    total: int | None
    evaluated: int | None
    unexpected: int | None
    fraction: float | None
    mostly: float | None
    observed: Any
    examples: Sequence[Any]
    way: str
    blocks: bool
    set_aside: bool


class Cause(TypedDict, total=False):
    """What stood against publishing. kind: rule, budget, drift, keys, model; remedy: what allows more, if anything."""

    kind: str
    said: str
    remedy: str


class Budget(TypedDict, total=False):
    """How many rows may be set aside, and how many were."""

    max_fraction: float | None
    max_rows: int | None
    quarantined: int
    allowed: int


class Bin(TypedDict, total=False):
    """One bar: the share of rows in it, and the baseline's. Open-ended and text bins have no lower or upper."""

    label: str
    lower: float | None
    upper: float | None
    fraction: float
    baseline_fraction: float | None


class DriftColumn(TypedDict, total=False):
    """How a column's distribution differs from its baseline. kind: "feature" or "prediction"."""

    column: str
    kind: str
    psi: float | None
    js: float | None
    ks: float | None
    null_fraction: float | None
    baseline_null_fraction: float | None
    drifted: bool
    bins: Sequence[Bin]


class DriftFacts(TypedDict, total=False):
    """Drift of the columns that moved most. action: "warn" or "block"; baseline: in words, null where there is none.

    left_out: how many columns are not among them; drifted: how many of all drifted; figures: those of all, in columns.
    """

    threshold: float | None
    action: str | None
    baseline: str | None
    columns: Sequence[DriftColumn]
    left_out: int
    drifted: int
    figures: Mapping[str, Sequence[Any]]


class PredictionFacts(TypedDict, total=False):
    """How a prediction of two models compares, over `rows` that both have a value for; flips: with another label.

    matrix: how often each of the model's labels became which of the challenger's; segments: the same figures by value.
    """

    name: str
    segment: str
    rows: int
    flips: int | None
    own_mean: float | None
    their_mean: float | None
    shift: float | None
    mean_distance: float | None
    furthest: float | None
    matrix: Mapping[str, Any] | None
    segments: Sequence[PredictionFacts]


class ChallengerFacts(TypedDict, total=False):
    """A challenger on the rows that were scored. by: the column of the segments; seconds: of all workers together."""

    label: str
    name: str
    version: str
    rows: int
    failed: int
    seconds: float
    model_seconds: float
    by: str | None
    examples: Sequence[str]
    predictions: Sequence[PredictionFacts]


class Explained(TypedDict):
    """Rows that were explained, those of them that the model told nothing of, and the seconds of all workers."""

    rows: int
    failed: int
    seconds: float


class Beside(TypedDict):
    """A figure of a held run and of the live one, in words."""

    what: str
    live: str
    held: str


class LiveFacts(TypedDict, total=False):
    """A held run's rows beside the live ones of its slice; `operations.difference.Difference` says what each is."""

    held: int
    live: int
    added: int
    gone: int
    changed: int
    same: int
    repeated: int
    by: str | None
    predictions: Sequence[PredictionFacts]
    examples: Sequence[Mapping[str, Mapping[str, Any]]]
    not_compared: Sequence[str]
    beside: Sequence[Beside]


class Run(TypedDict, total=False):
    """What a page tells. Times are ISO texts; samples are rows with their reasons under "_reasons".

    `restored`: of a rollback the run whose rows it put back, which all that was found out of rows is about.
    """

    run_id: str
    job: str
    date: str | None
    status: str
    started_at: str
    finished_at: str
    message: str | None
    rows_read: int
    rows_scored: int
    rows_quarantined: int
    carrier: str
    engine: str
    model: ModelFacts
    input: Input
    sinks: Sequence[SinkFacts]
    seconds: Mapping[str, float]
    work: Mapping[str, float]
    reasons: Sequence[Reason]
    samples: Sequence[Mapping[str, Any]]
    rules: Sequence[Rule]
    budget: Budget
    causes: Sequence[Cause]
    drift: DriftFacts
    challengers: Sequence[ChallengerFacts]
    live: LiveFacts
    explained: Explained
    models: ModelsFacts
    restored: str
