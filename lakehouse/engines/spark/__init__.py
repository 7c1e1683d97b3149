"""The Spark engine: the worker inside `mapInArrow`, a Spark UDF over Arrow batches.

Uses what Spark Connect has too: `range`, `mapInArrow`, `addArtifact`, `SparkFiles`; no SparkContext, no JVM. `running`
is called by the driver, `tasks` by Spark on executors, which `shipping` sends everything that they need.
"""

from lakehouse.engines.spark.applying import Applied, open_applied, readable, run_applied
from lakehouse.engines.spark.running import (
    SparkWork,
    ask_each,
    first_batches,
    frame_of,
    run_each,
    run_frame,
    run_units,
)
from lakehouse.engines.spark.sessions import (
    active_session,
    cores,
    driver_host,
    is_given,
    keep_session,
    one_machine,
    session,
    stop_jobs,
)
from lakehouse.engines.spark.shipping import ship_plan, shipped
from lakehouse.engines.spark.steps import Step, run_steps

__all__ = [
    "Applied", "SparkWork", "Step", "active_session", "ask_each", "cores", "driver_host", "first_batches", "frame_of",
    "is_given", "keep_session", "one_machine", "open_applied", "readable", "run_applied", "run_each", "run_frame",
    "run_steps", "run_units", "session", "ship_plan", "shipped", "stop_jobs",
]  # fmt: skip
