"""Score yesterday's games every night, and each night that was missed."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable
from lakehouse_operator import LakehouseScoreOperator

PROJECT = "/srv/scoring"

with DAG(
    dag_id="score_games",
    # At 02:05 for the day that has ended: {{ ds }} is the day on which the interval began.
    schedule=CronDataIntervalTimetable("5 2 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=True,
    max_active_runs=2,
    tags=["scoring"],
):
    LakehouseScoreOperator(
        task_id="score",
        conf="conf/games.yaml",
        command=f"{PROJECT}/.venv/bin/lakehouse",
        project_dir=PROJECT,
        engine="local",
        not_ready="retry",
        # Each date is a slice of its own, and one that is blocked keeps no other from being scored. Where dates build
        # on each other (`write: merge`, or a job without a slice): True, and max_active_runs=1.
        depends_on_past=False,
        retries=12,
        retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(hours=3),
    )
