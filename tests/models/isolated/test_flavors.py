"""Every flavour's models answer in a process of their own as they do in this one: the same objects, bit for bit."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from lakehouse import models
from lakehouse.config import load_job
from lakehouse.models.isolated.calling import Environment, IsolatedFolder
from lakehouse.scoring.inputs import model_given, unfit_rows
from lakehouse.scoring.reasons import numbers_of
from lakehouse.scoring.score import Scoring
from tests.models.flavors.case import Case
from tests.models.flavors.comparing import connect
from tests.models.flavors.table import ENTRIES, entries
from tests.models.isolated import warm
from tests.models.isolated.test_values import alike

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

NAMES = (f"isolated{i}" for i in itertools.count())
QUICK = (
    "sklearn: predict_proba of doubles and text, one unseen",
    "custom Python: text of a list of typed records",
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """One environment for all, so that one process takes them all."""
    return warm.environment(tmp_path_factory.mktemp("environments"))


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flavors")


def prepared(case: Case, uri: str) -> tuple[Any, models.FetchedModel, models.Given]:
    """The job, its model, and the rows of the case that fit it."""
    table = pa.Table.from_pandas(case.rows, preserve_index=False)
    batch = table.add_column(0, "id", pa.array(np.arange(len(table)))).combine_chunks().to_batches()[0]
    content = {
        "job": "flavors", "source": {"type": "delta", "table": "none"}, "keys": ["id"],
        "sinks": [{"type": "delta", "table": "lake/none"}], **case.job, "model": {"uri": uri, **case.job.get("model", {})},
    }  # fmt: skip
    Path("job.yaml").write_text(yaml.safe_dump(content))
    job = load_job("job.yaml", date=None, environ=os.environ)
    fetched = models.fetch(job.model, models.resolve(job.model), Path.cwd())
    inputs = models.features_of(fetched, job.features, batch.schema, "rows")
    scoring = Scoring(("id",), (), inputs.features, (), "model", inputs.tensors)
    if broken := unfit_rows(batch, scoring):
        batch = batch.take(pa.array(sorted(set(range(batch.num_rows)) - set(numbers_of(broken).tolist()))))
    return job, fetched, model_given(batch, scoring)


@pytest.mark.quick(*QUICK)
@pytest.mark.parametrize("name", list(entries(by_spark=False)))
def test_an_answer_is_the_same(name, workspace, mlflow_left_alone, models_folder, own):
    connect(models_folder)
    case = ENTRIES[name].make()
    job, fetched, given = prepared(case, case.log(next(NAMES)).model_uri)
    asked = fetched.digest, job.model.method, models.freeze(job.model.params)
    here, there = models.load(fetched.path, *asked), models.load(IsolatedFolder(fetched.path, own), *asked)
    assert (here.classes, here.called, here.library) == (there.classes, there.called, there.library)
    assert (here.trained, here.without_classes) == (there.trained, there.without_classes)
    one, other = (_answer(*pair) for pair in ((here.predict, given.as_input()), (there.predict, given)))
    assert alike(one, other), (one, other)


def _answer(predict: Any, given: Any) -> Any:
    try:
        return predict(given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
