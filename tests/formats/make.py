"""Makes the stored example of one version of the program: run it with that version's code, then commit what it wrote.

    git worktree add ../older COMMIT
    PYTHONPATH=../older python -P tests/formats/make.py tests/formats/NAME.tar.xz

The example is a working folder: a feature table of three days, the model's folder, the job file and its suite, and what
three runs of the job left behind. The first day is published, with three rows in quarantine; the second is blocked; the
third was killed when its intent had been written, so that its lease is there, too. Stored paths begin with PLACE, and
leases name neither this machine nor a process: `test_formats.unpack` puts the folder's own path in.

The script names modules by where they were when the first example was made; a later version's are imported instead
where these are missing.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

PLACE = "/place-of-the-example"
"""What stands for the path of the working folder."""
PUBLISHED, BLOCKED, WAITING = "2026-01-01", "2026-01-02", "2026-01-03"
ROWS = 40
AN_HOUR = 3600
JOB = """\
job: scores
source: {type: delta, table: lake/features, where: "day = '{date}'"}
model: {uri: model}
features: {nulls: quarantine}
keys: [id]
predictions: {p: 0}
slice: {score_date: "{date}"}
checks:
  features: conf/features.json
  quarantine: {max_fraction: 0.1}
  drift: {psi: 0.2}
sinks: [{type: delta, table: lake/scores}]
"""
SUITE = {
    "name": "features",
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": -100, "max_value": 100}}
    ],
}


def module(*names: str) -> Any:
    """The first of the modules that there is."""
    for name in names:
        try:
            return importlib.import_module(f"lakehouse.{name}")
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"lakehouse has none of {', '.join(names)}: where is that now?")


def model() -> None:
    """A straight line through a feature that may be missing, as a folder in MLflow's format."""
    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    line = make_pipeline(SimpleImputer(), LinearRegression()).fit(x, x["a"] * 10)
    mlflow.sklearn.save_model(
        line, "model", signature=mlflow.models.infer_signature(x, line.predict(x)),
        pip_requirements=["scikit-learn"], skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip


def features() -> None:
    """Three days of features; on the second a quarter of them is null, on the others three are."""
    import pyarrow as pa
    from deltalake import write_deltalake

    days = []
    for number, day in enumerate((PUBLISHED, BLOCKED, WAITING)):
        nulls = range(10) if day == BLOCKED else range(3)
        ids = range(number * ROWS, (number + 1) * ROWS)
        values = [None if i in nulls else i * 0.1 for i in range(ROWS)]
        days.append(pa.table({"id": list(ids), "a": pa.array(values, pa.float64()), "day": [day] * ROWS}))
    write_deltalake("lake/features", pa.concat_tables(days), partition_by=["day"])


def run(day: str) -> None:
    config, pipeline, ledger = module("config"), module("pipeline"), module("ledger", "runs.ledger")
    job = config.load_job("conf/scores.yaml", date=day, environ=os.environ)
    try:
        print(day, pipeline.score(job, pipeline.Request("local", ledger.now(), pipeline.new_run_id())).status)
    except module("errors").Blocked as error:
        print(day, "blocked:", error)


def run_until_declared(day: str) -> None:
    """A run that kills its own process once its intent is written."""
    ledger = module("ledger", "runs.ledger")
    name = "declare" if hasattr(ledger, "declare") else "save_intent"
    declare = getattr(ledger, name)

    def die(*arguments: Any) -> None:
        declare(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(ledger, name, die)
    run(day)


def pack(out: Path) -> None:
    """The working folder as an archive, without what is of this machine."""
    here = str(Path.cwd())
    with tarfile.open(out, "w:xz") as archive:
        for path in sorted(Path().rglob("*")):
            if path.is_dir() or path.name.endswith(".crc") or path.name == "__pycache__":
                continue
            content = path.read_bytes()
            if path.name == "_lease.json":
                content = json.dumps({**json.loads(content), "host": "elsewhere", "pid": 1, "process": ""}).encode()
            content = content.replace(here.encode(), PLACE.encode())
            entry = tarfile.TarInfo(str(path))
            entry.size, entry.mtime = len(content), int(path.stat().st_mtime) - AN_HOUR  # no lease counts as alive
            archive.addfile(entry, io.BytesIO(content))


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("conf").mkdir()
        Path("conf/scores.yaml").write_text(JOB)
        Path("conf/features.json").write_text(json.dumps(SUITE))
        model()
        features()
        for day in (PUBLISHED, BLOCKED):
            run(day)
        killed = subprocess.run([sys.executable, "-P", __file__, "", WAITING], check=False).returncode
        assert killed == -signal.SIGKILL
        pack(out)
        os.chdir("/")
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    if sys.argv[2:]:
        run_until_declared(sys.argv[2])
    else:
        main(Path(sys.argv[1]).resolve())
