"""Models: alias → version → local bytes → digest → policy → predictor. The only importer of MLflow.

`registry` fetches, `policy` judges before a byte of the model runs, `loading` loads, `signature` says which columns
become which features. How a model is called on rows, and what its answers mean, is in `scoring`.
"""

from lakehouse.models.baselines import as_text as baselines_as_text
from lakehouse.models.baselines import from_text as baselines_from_text
from lakehouse.models.baselines import log_baseline, store_baseline, stored_baseline
from lakehouse.models.flavors import Predictor
from lakehouse.models.loading import digest_of, load, pack
from lakehouse.models.output_signature import output_type
from lakehouse.models.parameters import freeze, require_params
from lakehouse.models.policy import as_list as trust_list
from lakehouse.models.registry import FetchedModel, Resolved, fetch, log_run, needs_of, resolve
from lakehouse.models.signature import Inputs, features_of, inputs_of

__all__ = [
    "FetchedModel", "Inputs", "Predictor", "Resolved", "baselines_as_text", "baselines_from_text", "digest_of",
    "features_of", "fetch", "freeze", "inputs_of", "load", "log_baseline", "log_run", "needs_of", "output_type",
    "pack", "require_params", "resolve", "store_baseline", "stored_baseline", "trust_list",
]  # fmt: skip
