"""What workers are told of explanations: which prediction of which rows, and that the model tells its contributions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lakehouse.errors import ConfigError, nearest
from lakehouse.planning.trial import Trial
from lakehouse.schemas import first_rows
from lakehouse.scoring.explanations import Explainer, Explaining, with_predictor
from lakehouse.scoring.outputs import Output, numbers_among

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.config.records import Explanations

_OTHERS = 64
"""Rows of the sample that contributions of a linear model are held against."""


def explaining_for(job: Job, tried: Trial, uri: str) -> Explaining | None:
    """None where nothing is to be explained, or no row of the sample could be given to the model.

    `uri`: the model's. Raises ConfigError for a prediction that can't be explained, and for a model that doesn't tell
    what its features contribute.
    """
    asked = job.explanations
    if asked is None or tried.rows is None or not tried.rows.num_rows:
        return None
    output = _output(asked, tried)
    least, most = _bounds(asked, output, tried.scoring.outputs)
    explaining = Explaining(output.name, output.part, asked.top, least, most, first_rows(tried.rows, _OTHERS))
    explainer = Explainer(explaining, tried.scoring, with_predictor(tried.predictor.predict, tried.predictor))
    if explainer.contributions(tried.rows) is None:
        raise ConfigError(
            f"explanations: {uri} ({tried.predictor.called}) does not tell what each feature contributes: linear "
            "models of scikit-learn behind scalers do, and trees of XGBoost, LightGBM and CatBoost, of scikit-learn "
            "with the package shap (the extra `explain`); leave the section out"
        )
    return explaining


def _output(asked: Explanations, tried: Trial) -> Output:
    """The prediction that is explained."""
    numbers = numbers_among(tried.scoring.outputs, labels=tried.predictor.classes is not None)
    names = [o.name for o in numbers]
    if not numbers or (asked.of is not None and asked.of not in names):
        what = "no prediction is a number" if not numbers else f"no numeric prediction {asked.of!r}"
        raise ConfigError(f"explanations.of: {what}{nearest(asked.of, names) if asked.of and names else ''}")
    return next(o for o in numbers if asked.of in (None, o.name))


def _bounds(asked: Explanations, own: Output, outputs: tuple[Output, ...]) -> tuple[float, float]:
    """From which value of the prediction to which its rows are explained."""
    when = asked.when
    if when.rule != "near_threshold":  # the bounds of "always" are none
        return -math.inf if when.above is None else when.above, math.inf if when.below is None else when.below
    threshold = next((o.threshold for o in outputs if o.threshold is not None and o.part == own.part), None)
    if threshold is None:
        raise ConfigError(
            f"explanations.when: near_threshold needs a prediction with a threshold of the same output as {own.name}, "
            f"such as predictions: {{high: {{output: {own.part}, threshold: 0.5}}}}"
        )
    return threshold - asked.within, threshold + asked.within
