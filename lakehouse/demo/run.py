"""`lakehouse demo`: tables, a model, the job by spark-submit, a rerun, other models, and the plain script beside it."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lakehouse.connectors.delta import open_table
from lakehouse.demo.commands import LAKE, TRACKING, answer, entry, step, submit
from lakehouse.engines import runtime
from lakehouse.errors import ConfigError, nearest
from lakehouse.storage import locate

DATE = "2026-01-02"


def run(csv: Path | None, label: str | None, rows: int, compare: bool = False) -> None:
    """Run the demo in the working directory, with all its data under `lake/`.

    `compare`: score the same rows by the plain script too, as the first run does by itself.

    Raises ConfigError for a CSV file that can't be used, and what the job itself raises.
    """
    if (csv is None) != (label is None):
        raise ConfigError("--csv and --label go together: the file, and its column to predict")
    os.environ["JAVA_HOME"] = str(runtime.ensure_java())
    if csv is None:
        _games(rows, compare)
    else:
        _own(csv, str(label))


def prepare(rows: int, conf: Path) -> None:
    """The features and the model that the demo's jobs share, where they aren't there already.

    Raises ConfigError where the job file isn't.
    """
    from lakehouse.demo import data, train

    if not conf.exists():
        raise ConfigError(f"{conf} is not here: run the demo in the project's folder")
    if open_table(locate(str(LAKE / "features/games"))) is None:
        step(f"1  features: three dates of about {rows:,} players in {LAKE}/features/games")
        data.write_games(LAKE, rows_per_date=rows)
    else:
        step(f"1  features: {LAKE}/features/games is there already")
    if not Path(TRACKING.removeprefix("sqlite:///")).exists():
        step("2  model: a logistic regression, registered as logit_games@champion")
        train.train(str(LAKE / "training/games"), TRACKING)
    else:
        step("2  model: logit_games@champion is registered already")


def _games(rows: int, compare: bool) -> None:
    from lakehouse.demo import beside

    conf = beside.GAMES
    prepare(rows, conf)
    first = open_table(locate(str(LAKE / "scores/games"))) is None
    step(f"3  the job: spark-submit jobs/score.py {conf} --date {DATE}")
    submit(str(conf), DATE)
    if first:
        step("4  the same again: nothing changed, so nothing is done")
        submit(str(conf), DATE)
    beside.network(DATE)
    beside.imported(DATE)
    if first or compare:
        step("9  the rows of logit_games by a plain mlflow.pyfunc.spark_udf script")
        _compare(DATE)
    if not first and not compare:
        print("  (lakehouse demo --compare also runs the plain spark_udf script, as the first time)")
    step("next")
    print(f"""  lakehouse score {conf} --date 2026-01-01 --engine local    # an earlier date, without a JVM
  lakehouse runs {conf}                                      # what ran, and how fast
  lakehouse score {conf} --date {DATE} --dry-run         # what a run would do
  notebooks/explore_scores.ipynb                             # look at the scores, in any editor (kernel: .venv)
  lakehouse demo --csv your.csv --label your_column                 # the same on your own data
  lakehouse demo --snowflake                                        # from and to Snowflake, on a stand-in""")


def _own(csv: Path, label: str) -> None:
    import yaml

    from lakehouse.demo import data, train

    if not csv.exists():
        hint = nearest(csv.name, [path.name for path in csv.parent.glob("*.csv")])
        raise ConfigError(f"--csv: there is no file {csv} in {csv.parent.absolute()}; {hint}")
    name = "".join(c if c.isalnum() else "_" for c in csv.stem.lower())
    today = datetime.now(UTC).date().isoformat()
    step(f"1  features: {csv} as Delta tables under {LAKE}/{name}")
    tables = data.csv_to_tables(csv, label, LAKE / name, date.fromisoformat(today))
    step(f"2  model: {label} from {len(tables.features)} columns, registered as {name}@champion")
    train.train(tables.training_uri, TRACKING, name, "champion", tables.features, label)
    outputs: dict[str, Any] = {label + "_predicted": "*"}
    if tables.classes is not None:
        outputs = {f"probability_{value}": {"class": value} for value in tables.classes}
    job = {
        "job": name,
        "source": {"type": "delta", "table": tables.features_uri, "where": "event_date = '{date}'"},
        "model": {"uri": f"models:/{name}@champion", "tracking_uri": TRACKING}
        | ({"method": "predict_proba"} if tables.classes is not None else {}),
        "keys": [tables.key],
        "predictions": outputs,
        "slice": {"score_date": "{date}"},
        "sinks": [{"type": "delta", "table": f"{LAKE}/{name}/scores"}],
    }
    conf = LAKE / name / "job.yaml"
    conf.write_text(yaml.safe_dump(job, sort_keys=False))
    step(f"3  the job: spark-submit {entry()} {conf} --date {today}")
    submit(str(conf), today)
    step("4  the same again: nothing changed, so nothing is done")
    submit(str(conf), today)
    step("next")
    print(f"""  {conf}     # the job: the file to change and to keep
  lakehouse runs {conf}     # what ran, and how fast
  lakehouse score {conf} --date {today} --engine local --rescore     # again, without a JVM""")


def _compare(day: str) -> None:
    """Run the plain script on the same rows; print its time and the largest difference of a score."""
    from lakehouse.demo import beside

    out = LAKE / "scores_by_plain_script"
    jars = ",".join(str(jar) for jar in runtime.jars())
    command = [
        sys.executable,
        "-m",
        "lakehouse.demo.baseline",
        "--features",
        str(LAKE / "features/games"),
        "--model",
        "models:/logit_games@champion",
        "--tracking-uri",
        TRACKING,
        "--date",
        day,
        "--out",
        str(out),
        "--jars",
        jars,
    ]
    seconds = json.loads(answer(command).strip().splitlines()[-1])
    ours = beside.scores(str(LAKE / "scores/games"), day)
    theirs = beside.scores(str(out), None)
    both = ours.join(theirs, "player_id", right_suffix="_plain")
    gap = np.abs(both["purchase_probability"].to_numpy() - both["purchase_probability_plain"].to_numpy()).max()
    print(f"  plain script: {seconds}\n  {both.num_rows:,} rows in both, largest difference of a probability {gap:.1e}")
