"""Pipelines of Spark ML: refused. MLflow scores a frame with them by a Spark session of the process's own, which in a
worker, itself a process of Spark's, would start Java once more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors.calling import Predictor, Trained

NAME, LIBRARY = "spark", ("pyspark", "pyspark_version")


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    raise _refusal()


def settings(description: Mapping[str, Any]) -> Mapping[str, str]:
    """Raises, too: it is asked for before a model is loaded that the job trusts by its digest, unseen."""
    raise _refusal()


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    raise _refusal()


def trained_on(native: Any) -> Trained:
    raise _refusal()


def _refusal() -> ModelRefused:
    return ModelRefused(
        "the model is a pipeline of Spark ML, which only a Spark session runs, and no worker of one: score with the "
        "pipeline's own transform, or export it to ONNX (onnxmltools) and log that"
    )
