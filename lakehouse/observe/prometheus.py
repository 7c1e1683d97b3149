"""Prometheus: figures of a job's last run, as a file for node exporter's textfile collector or pushed to a gateway.

Labels are the job, a stage, a kind of rows and a status: as many series a job, however many dates and runs it has.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lakehouse.observe.events import Ended, Event, Observe, Run, Untold

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from lakehouse.config import Metrics

NAME = "metrics"
STATUSES = ("published", "unchanged", "held", "blocked", "not_ready", "partial", "failed", "stopped")
_SUCCESS = "lakehouse_last_success_timestamp_seconds"
_LAST = "When a run of the job last ended with its scores live"
_JOB = "lakehouse_job"
"""The label of the job; the label `job` is that of who was scraped."""
_ANSWER_S = 2.0


def observers(run: Run) -> dict[str, Callable[[], Observe]]:
    """The file and the gateway that the job names."""
    metrics, found = run.job.metrics, dict[str, Callable[[], Observe]]()
    if metrics is not None and metrics.textfile is not None:
        found["metrics.textfile"] = partial(_begin, run, partial(_to_file, metrics))
    if metrics is not None and metrics.pushgateway is not None:
        found["metrics.pushgateway"] = partial(_begin, run, partial(_to_gateway, metrics))
    return found


def _begin(run: Run, write: Callable[[CollectorRegistry, str], None]) -> Observe:
    try:
        import prometheus_client  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise Untold("its library is not installed: pip install lakehouse[prometheus]") from error

    def hear(event: Event) -> None:
        if isinstance(event, Ended) and not event.earlier and not run.undoes:
            write(figures(event, run), run.job.job)

    return hear


def figures(ended: Ended, run: Run) -> CollectorRegistry:
    """The figures of a run that has ended; those that it does not have are left out."""
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()

    def gauge(name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"lakehouse_{name}", what, [_JOB, *labels], registry=registry)

    job, result = run.job.job, ended.result
    gauge("last_run_timestamp_seconds", "When the job's last run ended").labels(job).set(ended.at.timestamp())
    status = gauge("last_run_status", "1 for the status of the job's last run", "status")
    for name in STATUSES:
        status.labels(job, name).set(name == ended.status)
    if result is not None:
        rows = gauge("last_run_rows", "Rows of the job's last run", "kind")
        for kind, count in ended.rows.items():
            rows.labels(job, kind).set(count)
        seconds = gauge("last_run_seconds", "Seconds of the job's last run", "stage")
        for stage, value in (result.seconds or {}).items():
            seconds.labels(job, stage).set(value)
    if drift := ended.drift:
        for name, value in (("drift_max_psi", drift["psi"]), ("drifted_columns", drift["columns"])):
            gauge(f"last_run_{name}", "How far the job's last run has drifted").labels(job).set(value)
    if ended.status in ("published", "unchanged"):
        gauge(_SUCCESS.removeprefix("lakehouse_"), _LAST).labels(job).set(ended.at.timestamp())
    return registry


def _to_file(metrics: Metrics, registry: CollectorRegistry, job: str) -> None:
    """Replace the job's file in one step. When a run last succeeded is kept from the one before."""
    from prometheus_client import Gauge, write_to_textfile
    from prometheus_client.parser import text_string_to_metric_families

    assert metrics.textfile is not None  # whoever calls has looked
    file = Path(metrics.textfile) / f"lakehouse_{re.sub(r'[^A-Za-z0-9_.-]', '_', job)}.prom"
    try:
        if registry.get_sample_value(_SUCCESS, {_JOB: job}) is None and file.exists():
            before = text_string_to_metric_families(file.read_text())
            kept = [sample.value for family in before for sample in family.samples if sample.name == _SUCCESS]
            for value in kept[:1]:
                Gauge(_SUCCESS, _LAST, [_JOB], registry=registry).labels(job).set(value)
        write_to_textfile(os.fspath(file), registry)
    except OSError as error:
        raise Untold(f"{file} can't be written: {error.strerror or type(error).__name__}") from error


def _to_gateway(metrics: Metrics, registry: CollectorRegistry, job: str) -> None:
    """Push; figures that this run does not have stay there as they were, such as when one last succeeded."""
    from prometheus_client import pushadd_to_gateway

    assert metrics.pushgateway is not None  # whoever calls has looked
    given = urlsplit(metrics.pushgateway.get_secret_value())
    login, _, host = given.netloc.rpartition("@")

    def handler(url, method, timeout, headers, data):  # type: ignore[no-untyped-def]  # as the library calls it
        from prometheus_client.exposition import default_handler

        name = ":".join(map(unquote, login.split(":", 1)))
        basic = [("Authorization", f"Basic {base64.b64encode(name.encode()).decode()}")] if login else []
        return default_handler(url, method, timeout, [*headers, *basic], data)

    try:
        pushadd_to_gateway(given._replace(netloc=host).geturl(), "lakehouse", registry, {_JOB: job},
                           timeout=_ANSWER_S, handler=handler)  # fmt: skip
    except OSError as error:
        code = getattr(error, "code", None)
        said = f"it answered {code}" if code else f"it can't be reached ({type(error).__name__})"
        raise Untold(said) from None
