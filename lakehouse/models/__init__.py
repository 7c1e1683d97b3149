"""Models: alias → version → local bytes → digest → policy → predictor. The only importer of MLflow.

`registry` fetches, `policy` judges before a byte of the model runs, `loading` loads, `signature` says which columns
become which features. How a model is called on rows, and what its answers mean, is in `scoring`.
"""

from lakehouse.models.baselines import as_text as baselines_as_text
from lakehouse.models.baselines import from_text as baselines_from_text
from lakehouse.models.baselines import log_baseline, store_baseline, stored_baseline
from lakehouse.models.conversions import type_for
from lakehouse.models.declared import specs_of
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
from lakehouse.models.flavors import Predictor, Trained
from lakehouse.models.holding import held
from lakehouse.models.loading import Folders, digest_of, load, pack, unpacked
from lakehouse.models.many import environment_key, fetch, pinned, resolve
from lakehouse.models.obtaining import obtain
from lakehouse.models.output_signature import output_type
from lakehouse.models.parameters import freeze, require_params
from lakehouse.models.patience import Patience
from lakehouse.models.policy import as_list as trust_list
from lakehouse.models.registry import FetchedModel, Resolved, log_run, move_alias, needs_of, tag_version
from lakehouse.models.signature import Inputs, features_of, inputs_of
from lakehouse.models.trained import held_to

__all__ = [
    "Difference", "FetchedModel", "Folders", "Inputs", "Patience", "Predictor", "Recorded", "Resolved", "Trained",
    "baselines_as_text", "baselines_from_text", "differences", "digest_of", "environment_here", "environment_key",
    "environment_refusal", "environment_summary", "expected_environment", "features_of", "fetch", "freeze", "held",
    "held_to", "input_example", "inputs_of", "load", "log_baseline", "log_run", "move_alias", "needs_of", "obtain",
    "output_type", "pack", "pinned", "recorded_environment", "require_params", "resolve", "specs_of", "store_baseline",
    "stored_baseline", "tag_version", "trust_list", "type_for", "unpacked",
]  # fmt: skip
