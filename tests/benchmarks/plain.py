"""The script that everybody writes: score a table in Snowflake in one process, by way of pandas.

It is here to be compared with: only the columns needed, one query, one call of the model, one upload as that of
`write_pandas` (Parquet to a temporary file, PUT, COPY; `write_pandas` itself needs statements that the stand-in lacks).
Its last line on stdout is a JSON object with the seconds of each phase.

    python -m tests.benchmarks.plain --connection tests --table GAMES --model models:/logit_games/1 --out PLAIN
"""

from __future__ import annotations

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read while mlflow is imported

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pandas as pd
import snowflake.connector


def score(connection: str, table: str, model: str, out: str) -> dict[str, float]:
    """Write each player's country and probability to the table `out`; return seconds by phase."""
    laps = [time.perf_counter()]
    predictor = mlflow.pyfunc.load_model(model)
    features = predictor.metadata.get_input_schema().input_names()
    laps.append(time.perf_counter())
    options = {"connection_name": connection, "enable_server_session_keep_alive_auto_detection": False}
    with snowflake.connector.connect(**options) as opened, tempfile.TemporaryDirectory() as folder:
        cursor = opened.cursor()
        rows = cursor.execute(f"SELECT PLAYER_ID, COUNTRY, {', '.join(features)} FROM {table}").fetch_pandas_all()
        laps.append(time.perf_counter())
        scores = predictor.predict(rows[features])
        laps.append(time.perf_counter())
        named = {"PLAYER_ID": rows["PLAYER_ID"], "COUNTRY": rows["COUNTRY"], "PURCHASE_PROBABILITY": scores[:, 1]}
        file = Path(folder, "scores.parquet")
        pd.DataFrame(named).to_parquet(file, compression="snappy", index=False)
        for sql in (
            f"CREATE OR REPLACE TABLE {out} (PLAYER_ID NUMBER(19,0), COUNTRY VARCHAR, PURCHASE_PROBABILITY DOUBLE)",
            f"CREATE STAGE IF NOT EXISTS {out}_FILES",
            f"PUT 'file://{file}' @{out}_FILES AUTO_COMPRESS = FALSE OVERWRITE = TRUE",
            f"COPY INTO {out} FROM @{out}_FILES FILES = ('scores.parquet') FILE_FORMAT = (TYPE = PARQUET) "
            "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE",
        ):
            cursor.execute(sql)
        laps.append(time.perf_counter())
    phases = ("load model", "read", "score", "publish")
    return {phase: laps[i + 1] - laps[i] for i, phase in enumerate(phases)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.plain")
    parser.add_argument("--connection", required=True, help="its name in connections.toml")
    parser.add_argument("--table", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True, help="the table to write; it's replaced")
    parser.add_argument("--tracking-uri", metavar="URI", help="where MLflow is; by default as MLflow finds it")
    args = parser.parse_args(argv)
    if args.tracking_uri:
        mlflow.set_tracking_uri(args.tracking_uri)
        mlflow.set_registry_uri(args.tracking_uri)
    print(json.dumps({"seconds": score(args.connection, args.table, args.model, args.out)}))


if __name__ == "__main__":
    main()
