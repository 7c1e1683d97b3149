"""Every flavour's models are scored as their own library scores them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.models.flavors import boosted
from tests.models.flavors.comparing import EQUAL, by_pyfunc, by_udf, connect, difference, run
from tests.models.flavors.table import ENTRIES, HEAD, committed, entries

# keras on jax: calls numpy in a way on its way out, while it saves a model
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

NAMES = (f"flavor{i}" for i in itertools.count())
QUICK = (
    "sklearn: decision_function, three classes of doubles",
    "sklearn: predict_proba of doubles and text, one unseen",
    "xgboost: predict of a category, one unseen",
    "lightgbm: predict_proba of a category, one unseen",
    "catboost: predict, three classes of a category, one unseen, and nulls",
    "onnx: number label and probabilities, with zipmap of doubles",
    "onnx: a number of a tensor",
    "keras: a sigmoid of a tensor",
    "statsmodels: a logit of a formula of doubles with nulls and text",
    "custom Python: a number of doubles and a parameter",
    "custom Python: text of a list of typed records",
)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flavors")


@pytest.fixture
def logged(workspace, mlflow_left_alone, models_folder, request):
    """logged(entry's name) → its case and the URI of its model, in an MLflow that this process uses."""
    connect(models_folder)

    def make(name):
        if ENTRIES[name].flavor == "spark":
            request.getfixturevalue("spark")
        case = ENTRIES[name].make()
        return case, case.log(next(NAMES)).model_uri

    return make


@pytest.mark.quick(*QUICK)
@pytest.mark.parametrize("name", list(entries()))
def test_a_run_equals_the_library_and_pyfunc_does_what_the_table_says(name, logged):
    case, uri = logged(name)
    result, answer = run(uri, case)
    assert difference(answer, case) == ""
    assert None not in result.model.values()
    assert by_pyfunc(uri, case)[0] == committed()[name][HEAD.index("`mlflow.pyfunc`")]


@pytest.mark.quick("sklearn: predict_proba of doubles and text, one unseen")
@pytest.mark.parametrize("name", list(entries(by_spark=False)))
def test_a_run_on_spark_equals_the_library(name, logged, spark):
    case, uri = logged(name)
    assert difference(run(uri, case, "spark")[1], case) == ""


def test_a_booster_is_given_what_its_signature_declares(workspace, mlflow_left_alone, models_folder):
    connect(models_folder)
    case = boosted.xgboost_booster({"output_margin": True})
    uri = case.log(next(NAMES)).model_uri
    assert difference(run(uri, case)[1], case) == ""
    assert by_pyfunc(uri, case)[0] == EQUAL


@pytest.mark.long
@pytest.mark.parametrize("name", list(entries()))
def test_spark_udf_answers_as_the_table_says(name, logged, spark):
    case, uri = logged(name)
    run(uri, case)
    verdict, why = by_udf(spark, uri, case)
    assert verdict == committed()[name][HEAD.index("`spark_udf`")], why


def test_the_table_has_a_row_an_entry():
    rows = committed()
    assert list(rows) == list(ENTRIES)
    assert {row[HEAD.index("a run")].split(",")[0] for row in rows.values()} == {EQUAL}
