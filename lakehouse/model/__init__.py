"""Models: alias → version → local bytes → digest → policy → predictor. The only importer of MLflow."""

from lakehouse.model.loading import Predictor, digest_of, load, pack
from lakehouse.model.registry import Model, Resolved, fetch, log_run, needs_of, resolve
from lakehouse.model.signature import features_of, inputs_of

__all__ = [
    "Model", "Predictor", "Resolved", "digest_of", "features_of", "fetch", "inputs_of", "load", "log_run", "needs_of",
    "pack", "resolve",
]  # fmt: skip
