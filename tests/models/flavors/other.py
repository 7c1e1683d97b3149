"""Models of statsmodels, and custom Python models."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.statsmodels
import numpy as np
import pandas as pd
import pydantic
from mlflow.models import infer_signature

from tests.models.flavors.case import Case, Entry, logger, numbers, with_nulls, with_text

TRUST = {"model": {"trust": ["python_function", "pickle"]}}


def statsmodels_logit() -> Case:
    import statsmodels.formula.api as formulas

    x = with_text()
    y = (x["a"] + np.cos(np.arange(len(x)) * 5) * 3 > 0).astype(int)
    model = formulas.logit("y ~ a + C(c)", x.assign(y=y)).fit(disp=0)
    rows = with_nulls(x)
    signature = infer_signature(x, model.predict(x))
    log = logger(mlflow.statsmodels.log_model, model, "statsmodels", signature=signature)
    return Case(
        log, rows, {"prediction": model.predict(rows).to_numpy()}, {"model": {"trust": ["pickle"]}}, close=1e-12
    )


class Untyped(mlflow.pyfunc.PythonModel):
    """Its factor comes from the model's configuration, its shift is a parameter."""

    def load_context(self, context: Any) -> None:
        self.factor = context.model_config["factor"]

    def predict(self, context, model_input, params=None):
        return model_input["a"] * self.factor + (params or {}).get("shift", 0.0)


def untyped() -> Case:
    x = numbers()
    signature = infer_signature(x, x["a"].to_numpy(), params={"shift": 0.5})
    log = logger(as_python, Untyped(), "mlflow", signature=signature, model_config={"factor": 3.0})
    job = {"model": {**TRUST["model"], "params": {"shift": 2.0}}}
    return Case(log, x, {"prediction": x["a"].to_numpy() * 3.0 + 2.0}, job, params={"shift": 2.0})


def as_python(model: Any, **logging: Any) -> Any:
    return mlflow.pyfunc.log_model(python_model=model, **logging)


class Complaining(mlflow.pyfunc.PythonModel):
    """A model that scores no row, and says something else of the first one."""

    def predict(self, context, model_input, params=None):
        raise ValueError("the first row" if 0.0 in model_input["a"].to_numpy() else "no row will do")


class Row(pydantic.BaseModel):
    """What a typed model takes."""

    a: float
    c: str
    note: str | None = None


class Typed(mlflow.pyfunc.PythonModel):
    """Its signature comes from its hints."""

    def predict(self, model_input: list[Row]) -> list[str]:
        return [f"{row.c} {row.a:.3f} {row.note}" for row in model_input]


def typed() -> Case:
    x = with_text().assign(note=pd.Series(["new", None])[np.arange(60) % 2].to_numpy(dtype=object))
    answer = Typed().predict([Row(**row) for row in x.to_dict(orient="records")])
    return Case(logger(as_python, Typed(), "mlflow"), x, {"prediction": answer}, TRUST, result_type="string")


FROM_CODE = """
import pandas as pd
import mlflow


class FromCode(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return pd.DataFrame({"sum": model_input["a"] + model_input["b"], "name": model_input["b"].map("{:.2f}".format)})


mlflow.models.set_model(FromCode())
"""


def from_code() -> Case:
    x = numbers()
    answer = {"sum": (x["a"] + x["b"]).to_numpy(), "name": x["b"].map("{:.2f}".format).to_numpy()}
    file = Path(tempfile.mkdtemp(), "from_code.py")
    file.write_text(FROM_CODE)
    log = logger(as_python, str(file), "mlflow", signature=infer_signature(x, pd.DataFrame(answer)))
    return Case(
        log, x, answer, {"model": {"trust": ["python_function"]}}, result_type="struct<sum: double, name: string>"
    )


ENTRIES = [
    Entry("statsmodels", "doubles with nulls and text", "a logit of a formula", statsmodels_logit),
    Entry("custom Python", "doubles and a parameter", "a number", untyped),
    Entry("custom Python", "a list of typed records", "text", typed),
    Entry("custom Python", "doubles", "a frame, its code in a file", from_code),
]
