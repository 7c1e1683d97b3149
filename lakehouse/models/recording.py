"""What is written to MLflow: runs with their figures, tags of versions, and aliases that are moved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakehouse.errors import Blocked
from lakehouse.models.connection import ask
from lakehouse.models.patience import Patience
from lakehouse.models.registry import Resolved, find

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.config import Model as ModelConfig


def log_run(
    job: Job, resolved: Resolved, experiment: str, figures: Mapping[str, float], tags: Mapping[str, str],
    page: bytes | None = None, patience: Patience | None = None,
) -> str:  # fmt: skip
    """Log a run with these metrics, tags and page to MLflow; its id."""
    from mlflow.entities import Metric, RunTag

    def log(client: Any) -> str:
        found = client.get_experiment_by_name(experiment)
        home = found.experiment_id if found else client.create_experiment(experiment)
        run = str(client.create_run(home, run_name=job.job).info.run_id)
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in figures.items()]
        client.log_batch(run, metrics, tags=[RunTag(k, v) for k, v in {**tags, "model_uri": resolved.uri}.items()])
        if page is not None:
            client.log_text(run, page.decode(), "report.html")
        client.set_terminated(run)
        return run

    return ask(job.model, patience, log)


def tag_version(job: Job, resolved: Resolved, run: str, patience: Patience | None = None) -> None:
    """Say at the model version, where a registry has it, which run in MLflow was the job's last one with it."""
    if resolved.uri.startswith("models:/") and resolved.version != "none":
        tag, versions = f"last_run.{job.job}", [one for _, one in resolved.members] or [resolved]

        def tag_all(client: Any) -> None:
            for one in versions:
                client.set_model_version_tag(one.name, one.version, tag, run)

        ask(job.model, patience, tag_all)


def move_alias(config: ModelConfig, name: str, alias: str, before: str, version: str) -> None:
    """Move an alias from one version to another. Raises Blocked where it is at neither.

    MLflow has no such act as one: the alias is looked at right before and right after.
    """

    def move(client: Any) -> None:
        now = str(find(client, config, lambda: client.get_model_version_by_alias(name, alias)).version)
        if now == version:
            return
        if now == before:
            client.set_registered_model_alias(name, alias, version)
            now = str(client.get_model_version_by_alias(name, alias).version)
        if now != version:
            raise Blocked(
                f"{name}@{alias} is version {now} by now, and was {before} when version {version} was compared with "
                "it: score again, so that they are compared as they are"
            )

    ask(config, None, move)
