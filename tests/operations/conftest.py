"""What tests of several operations are made of: versions of a model of their own, and a job a day."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression


def registered(register, *factors):
    """The URIs of models of `a`, which each of these multiplies."""
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return [register(LinearRegression().fit(x, x["a"] * factor), x) for factor in factors]


@pytest.fixture
def versions(register, request):
    """Registers one more version of this test's model, which champion then is; its URI."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.nodeid)
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return lambda times: register(LinearRegression().fit(x, x["a"] * times), x, name=name)


@pytest.fixture
def job_of(make_job):
    """The job of a day, from that day's rows to its slice; sections change it."""

    def make(uri, day="2026-01-01", **sections):
        more = {"source": {"where": "day = '{date}'"}, "slice": {"score_date": "{date}"}, **sections}
        return make_job(uri, date=day, predictions={"p": 0}, **more)

    return make
