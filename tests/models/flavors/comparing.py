"""Answers held against the library's own: of a run, of `mlflow.pyfunc` and of `spark_udf`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from lakehouse.config import load_job
from lakehouse.pipeline import Result
from tests.conftest import read, score, write
from tests.models.flavors.case import Case, Columns

_SAID = 110
EQUAL, PREDICTS = "equal", "calls `predict`"


def connect(folder: Path) -> None:
    """MLflow's functions, in this process and its children, log to and read from a database in this folder."""
    uri = f"sqlite:///{folder}/mlflow.db"
    os.environ["MLFLOW_TRACKING_URI"] = os.environ["MLFLOW_REGISTRY_URI"] = uri
    mlflow.set_tracking_uri(uri)
    if mlflow.get_experiment_by_name("flavors") is None:
        mlflow.create_experiment("flavors", (folder / "artifacts").as_uri())
    mlflow.set_experiment("flavors")


def run(uri: str, case: Case, engine: str = "") -> tuple[Result, Columns]:
    """A run over the case's rows, in the working directory, and what it wrote: None for rows that are set aside."""
    engine = engine or case.engine
    table = pa.Table.from_pandas(case.rows, preserve_index=False)
    write("lake/features", table.add_column(0, "id", pa.array(np.arange(len(table)))), mode="overwrite")
    content = {
        "job": f"flavors_{engine}",
        "source": {"type": "delta", "table": "lake/features"},
        "keys": ["id"],
        "checks": {"quarantine": {"max_fraction": 0.5}},
        "sinks": [{"type": "delta", "table": f"lake/{engine}"}],
        **case.job,
        "model": {"uri": uri, **case.job.get("model", {})},
    }
    file = Path("job.yaml")
    file.write_text(yaml.safe_dump(content))
    result = score(load_job(file, date=None, environ=os.environ), engine)
    assert (result.status, result.engine, result.rows_quarantined) == ("published", engine, len(case.aside))
    scored = read(f"lake/{engine}")
    place = {number: row for row, number in enumerate(scored["id"].to_pylist())}
    written = {name: scored[name].to_pylist() for name in case.native}
    rows = range(len(case.rows))
    return result, {name: [v[place[r]] if r in place else None for r in rows] for name, v in written.items()}


def difference(answer: Columns, case: Case) -> str:
    """How an answer differs from the library's own in the rows that are not set aside, in words; "" for not at all."""
    kept = [row for row in range(len(case.rows)) if row not in case.aside]
    if len(answer) != len(case.native):
        return f"{len(answer)} columns instead of {len(case.native)}"
    for have, want in zip(map(_plain, answer.values()), map(_plain, case.native.values()), strict=True):
        if len(have) != len(want):
            return f"{len(have)} values for {len(want)} rows"
        if wrong := [row for row in kept if not _alike(have[row], want[row], case.close)]:
            some = f"{_short(have[wrong[0]])} instead of {_short(want[wrong[0]])}"
            return f"{len(wrong)} of {len(kept)} values differ, such as {some}"
    return ""


def _plain(values: Any) -> list[Any]:
    return [v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for v in values]


def _alike(have: Any, want: Any, close: float) -> bool:
    if isinstance(have, dict) and isinstance(want, dict):
        have, want = sorted(have.items()), sorted(want.items())
    if isinstance(have, (list, tuple)) and isinstance(want, (list, tuple, dict)):
        want = list(want.items()) if isinstance(want, dict) else want
        return len(have) == len(want) and all(_alike(h, w, close) for h, w in zip(have, want, strict=True))
    missing = [v is None or (isinstance(v, float) and v != v) for v in (have, want)]
    if any(missing):
        return all(missing)
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (have, want)):
        return type(have) is type(want) and bool(have == want)
    return abs(have - want) <= close * abs(want)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def by_pyfunc(uri: str, case: Case) -> tuple[str, str]:
    """How `mlflow.pyfunc.load_model(uri).predict` answers: in a word or two, and what is wrong with it."""
    if not case.predicts:
        return PREDICTS, ""
    try:
        model = mlflow.pyfunc.load_model(uri)
        given = case.rows.copy() if case.given is None else case.given
        answer = model.predict(given, **({"params": case.params} if case.params else {}))
    except Exception as error:
        return "raises", said(error)
    return _verdict(answer, case)


def by_udf(spark: Any, uri: str, case: Case) -> tuple[str, str]:
    """The same of `mlflow.pyfunc.spark_udf` on the rows that `run` has written."""
    from pyspark.sql import functions as F

    if not case.predicts:
        return PREDICTS, ""
    argument = (F.struct if case.given is None else F.array)(*case.rows.columns)
    more = {"params": case.params} if case.params else {}
    features = spark.read.format("delta").load(str(Path("lake/features").absolute()))

    def ask(result_type: str | None) -> tuple[str, str]:
        try:
            predict = mlflow.pyfunc.spark_udf(spark, uri, result_type=result_type, env_manager="local", **more)
            answers = features.select("id", predict(argument).alias("answer")).toArrow().sort_by("id")["answer"]
        except Exception as error:
            return "raises", said(error)
        rows = answers.to_pylist()
        return _verdict(pd.DataFrame(rows) if isinstance(rows[0], dict) else rows, case)

    verdict, why = ask(None)
    if verdict != EQUAL and case.result_type and ask(case.result_type)[0] == EQUAL:
        return f"{EQUAL} as `{case.result_type}`", f"without `result_type`: {why}"
    return verdict, why


def _verdict(answer: Any, case: Case) -> tuple[str, str]:
    wrong = difference(_columns(answer, case), case)
    return ("differs", wrong) if wrong else (EQUAL, "")


def _columns(answer: Any, case: Case) -> Columns:
    """An answer as as many columns as the library's own has, in their order; more where it can't be."""
    width, nested = len(case.native), bool(np.ndim(next(iter(case.native.values()))[0]))
    if isinstance(answer, pd.DataFrame):
        several = width > 1 or answer.shape[1] == 1
        return {name: answer[name].tolist() for name in answer} if several else {"": answer.to_numpy()}
    if isinstance(answer, dict):
        return {name: part[:, 0] if np.shape(part)[1:] == (1,) else part for name, part in answer.items()}
    rows = _plain(answer)
    if isinstance(rows[0], list) and not (width == 1 and nested):
        return dict(enumerate(zip(*rows, strict=True)))
    return {"": rows}


def said(error: BaseException) -> str:
    """The last exception that an error's text names, in a line."""
    text = str(error).partition("JVM stacktrace")[0]  # of Spark's: the worker's traceback comes first
    found = re.findall(r"^ {0,2}(?:\w+\.)*([A-Z]\w+): (\S.*)$", text, re.MULTILINE)
    kind, first = found[-1] if found else (type(error).__name__, text.strip().split("\n")[0])
    line = re.sub(r"\s+", " ", re.sub(r"\bo\d+\.", "", f"{kind}: {first}")).replace("|", "\\|")  # no number of py4j's
    return line if len(line) <= _SAID else line[: _SAID - 1] + "…"
