"""Models: alias → version → local bytes → digest → policy → predictor. The only importer of MLflow."""

from lakehouse.model.baselines import as_text as baselines_as_text
from lakehouse.model.baselines import from_text as baselines_from_text
from lakehouse.model.baselines import log_baseline, store_baseline, stored_baseline
from lakehouse.model.loading import Predictor, digest_of, load, pack
from lakehouse.model.output_signature import output_type
from lakehouse.model.registry import Model, Resolved, fetch, log_run, needs_of, resolve
from lakehouse.model.signature import features_of, inputs_of

__all__ = [
    "Model", "Predictor", "Resolved", "baselines_as_text", "baselines_from_text", "digest_of", "features_of", "fetch",
    "inputs_of", "load", "log_baseline", "log_run", "needs_of", "output_type", "pack", "resolve", "store_baseline",
    "stored_baseline",
]  # fmt: skip
