"""What a job says of parameters, classes and YAML's booleans, held against what the model is."""

from __future__ import annotations

import numpy as np
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from lakehouse.errors import ConfigError
from lakehouse.models import Predictor, require_params
from lakehouse.models.parameters import freeze, require_arguments
from lakehouse.planning.trial import _require_probabilities

SPECS = infer_signature([1.0], params={"factor": 1.0, "q": [0.5, 0.9]}).params.to_dict()


@pytest.mark.parametrize("given", [{"factor": 2}, {"factor": 2.5}, {"q": [0.1]}, {}])
def test_what_the_signature_takes_is_taken(given):
    assert require_params(SPECS, given, "m") is None


@pytest.mark.parametrize(
    ("specs", "given", "said"),
    [
        (SPECS, {"factro": 2.0}, "model.params: m has no parameter 'factro', did you mean 'factor'?"),
        (SPECS, {"factor": "2"}, "model.params.factor: the model takes a double, not '2'"),
        (SPECS, {"q": "high"}, "model.params.q: the model takes a list of double, not 'high'"),
        ([], {"factor": 2.0}, "model.params: m declares no parameters, so MLflow would leave 'factor' out"),
    ],
)
def test_what_the_signature_does_not_take_is_refused_in_one_line(specs, given, said):
    with pytest.raises(ConfigError) as refused:
        require_params(specs, given, "m")
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_method_is_asked_what_it_takes():
    def predict(x: object, rounds: int = 1) -> None: ...

    require_arguments(predict, {"rounds": 2}, "M.predict")  # x is given anyway
    with pytest.raises(ConfigError, match="has no parameter 'x'"):
        require_arguments(LogisticRegression().predict_proba, {"x": 2}, "M.predict_proba")


def test_lists_can_be_looked_up():
    assert hash(freeze({"q": [1, 2], "a": 1})) == hash((("a", 1), ("q", (1, 2))))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ([[0.2, 0.8], [1.0, 0.0]], True),
        ([[np.nan, np.nan], [0.5, 0.5]], True),
        (np.array([[1 / 3, 2 / 3]], np.float32), True),
        ([[-0.2, -1.8]], False),
        ([[1.5, -0.5]], False),
        ([[0.9, 0.9]], False),
    ],
)
def test_a_class_is_only_ever_a_probability(answer, right):
    def ask() -> None:
        _require_probabilities("p", np.array(answer), Predictor(lambda x: x, (0, 1)))

    if right:
        ask()
        return
    with pytest.raises(ConfigError, match=r"set model: \{method: predict_proba\}"):
        ask()
