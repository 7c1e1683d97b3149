"""Models: alias → version → local bytes → digest → policy → predictor. The only importer of MLflow.

`registry` fetches, `policy` judges before a byte of the model runs, `loading` loads, `signature` says which columns
become which features. How a model is called on rows, and what its answers mean, is in `scoring`.
"""

from lakehouse.models.baselines import as_text as baselines_as_text
from lakehouse.models.baselines import from_text as baselines_from_text
from lakehouse.models.baselines import log_baseline, store_baseline, stored_baseline
from lakehouse.models.environment import (
    Difference,
    Recorded,
    differences,
    environment_here,
    environment_refusal,
    environment_summary,
    expected_environment,
    recorded_environment,
)
from lakehouse.models.examples import input_example
from lakehouse.models.flavors import Predictor
from lakehouse.models.loading import digest_of, load, pack
from lakehouse.models.output_signature import output_type
from lakehouse.models.parameters import freeze, require_params
from lakehouse.models.registry import FetchedModel, Resolved, fetch, log_run, needs_of, resolve
from lakehouse.models.signature import Inputs, features_of, inputs_of

__all__ = [
    "Difference", "FetchedModel", "Inputs", "Predictor", "Recorded", "Resolved", "baselines_as_text",
    "baselines_from_text", "differences", "digest_of", "environment_here", "environment_refusal", "environment_summary",
    "expected_environment", "features_of", "fetch", "freeze", "input_example", "inputs_of", "load", "log_baseline",
    "log_run", "needs_of", "output_type", "pack", "recorded_environment", "require_params", "resolve", "store_baseline",
    "stored_baseline",
]  # fmt: skip
