"""What a model's features and predictions looked like when they were as they should be, kept with its version."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.checks import profile
from lakehouse.checks.profile import Baseline
from lakehouse.models.connection import ask
from lakehouse.models.patience import Patience
from lakehouse.models.registry import Resolved

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig

FOLDER, TRAINING = "lakehouse", "baseline.json"


def log_baseline(features: Any, predictions: Any = None) -> None:
    """Log the profile of the training data to MLflow's active run, as the baseline of the model logged there.

    `features`, `predictions`: pyarrow Tables or pandas DataFrames, columns named as the job reads and writes them.
    """
    import mlflow

    content = {"features": baseline_of(features), "predictions": baseline_of(predictions)}
    mlflow.log_text(as_text({k: v for k, v in content.items() if v}), f"{FOLDER}/{TRAINING}")


def baseline_of(rows: Any) -> Baseline | None:
    """The baseline that a whole table makes."""
    if rows is None:
        return None
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
    sketches = profile.start(table.schema, table.column_names)
    for batch in table.combine_chunks().to_batches():
        profile.observe(sketches, batch)
    return profile.baseline_of(profile.merge([profile.dump(sketches)]))


def as_text(baselines: Mapping[str, Baseline | None]) -> str:
    """Baselines of features and predictions as JSON."""
    return json.dumps({name: json.loads(found.to_json()) for name, found in baselines.items() if found})


def from_text(text: str) -> dict[str, Baseline]:
    """`as_text`, read. Raises ConfigError for anything else."""
    return {name: Baseline.from_json(json.dumps(part)) for name, part in json.loads(text).items()}


def stored_baseline(
    config: ModelConfig, resolved: Resolved, job: str, patience: Patience | None = None
) -> tuple[str, str] | None:
    """The text of the baseline kept with the model version, and where it is from: training or first published run."""
    return ask(config, patience, lambda client: _read(client, resolved, job)) if _has_run(resolved) else None


def _read(client: Any, resolved: Resolved, job: str) -> tuple[str, str] | None:
    import mlflow

    run = _run_of(client, resolved)
    there = {Path(f.path).name for f in client.list_artifacts(run, FOLDER)} if run is not None else set()
    for name, origin in ((TRAINING, "training"), (_own(job), "the first published run")):
        if name in there:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                path = mlflow.artifacts.download_artifacts(
                    run_id=run, artifact_path=f"{FOLDER}/{name}", dst_path=folder, tracking_uri=client.tracking_uri
                )
                return Path(path).read_text(), origin
    return None


def store_baseline(
    config: ModelConfig, resolved: Resolved, job: str, text: str, patience: Patience | None = None
) -> None:
    """Keep a job's first profile with the model version, where that has a run."""

    def store(client: Any) -> None:
        run = _run_of(client, resolved)
        if run is not None:
            client.log_text(run, text, f"{FOLDER}/{_own(job)}")

    if _has_run(resolved):
        ask(config, patience, store)


def _own(job: str) -> str:
    return f"baseline-{job}.json"


def _has_run(resolved: Resolved) -> bool:
    """Whether a model may have a run: a folder has none, and asks nobody."""
    if resolved.members:  # many versions have no run in common
        return False
    return resolved.uri.startswith("runs:") or (resolved.uri.startswith("models:") and resolved.version != "none")


def _run_of(client: Any, resolved: Resolved) -> str | None:
    if resolved.uri.startswith("runs:"):
        return resolved.version
    return client.get_model_version(resolved.name, resolved.version).run_id or None
