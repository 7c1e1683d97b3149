"""An operator for Airflow 3 that scores a date by `lakehouse score`, in the Python that lakehouse is installed in."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from lakehouse_command import environment, outcome, run, stop, words

RAISED = {"skip": AirflowSkipException, "retry": AirflowException, "fail": AirflowFailException}


class LakehouseScoreOperator(BaseOperator):
    """Score a job file for a date.

    conf, date: the job file, and the date, by default the run's own
    command: `lakehouse` of the environment that has it, never Airflow's own: their libraries don't go together
    project_dir: the folder in which relative paths begin
    engine, extra: `spark` or `local`; further options, such as ["--set", "source.version=3"]
    env: added to the worker's environment, such as MLFLOW_TRACKING_URI
    not_ready: whether a date whose input isn't there yet is tried again ("retry") or skipped ("skip")

    The result is the task's XCom, however the run ends.
    """

    template_fields: Sequence[str] = ("conf", "date", "project_dir", "engine", "extra", "env")
    ui_color = "#d7ece0"

    def __init__(
        self,
        *,
        conf: str,
        date: str | None = "{{ ds }}",
        command: str | Sequence[str] = "lakehouse",
        project_dir: str | None = None,
        engine: str | None = None,
        extra: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        not_ready: Literal["retry", "skip"] = "retry",
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if not_ready not in ("retry", "skip"):
            raise ValueError(f"not_ready={not_ready!r}: retry or skip")
        self.conf, self.date, self.command, self.project_dir = conf, date, command, project_dir
        self.engine, self.extra, self.env, self.not_ready = engine, list(extra), dict(env or {}), not_ready
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Run it; the result as the command printed it."""
        line = words(self.command, self.conf, self.date, self.engine, self.project_dir, self.extra)
        self.log.info("%s", " ".join(line))
        try:
            code, result = run(line, environment(self.env), self.log.info, self._started)
        except OSError as error:
            raise AirflowFailException(f"{line[0]} can't be run: {error.strerror}: see `command`") from error
        status, what = result.get("status", "no result"), outcome(code, self.not_ready)
        self.log.info("exit code %s: %s: %s", code, status, what)
        if what == "success":
            return result
        context["ti"].xcom_push(key="return_value", value=result)
        raise RAISED[what](f"exit code {code}, {status}: {result.get('message') or 'see the log'}")

    def on_kill(self) -> None:
        """Airflow ends the task: so does the command, which leaves nothing half published."""
        if self._process is not None:
            stop(self._process)

    def _started(self, process: subprocess.Popen[str]) -> None:
        self._process = process
