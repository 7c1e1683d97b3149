"""Models: alias → version → local bytes → digest → policy → predictor. The only importer of MLflow.

`registry` fetches, `policy` judges before a byte of the model runs, `loading` loads, `signature` says which columns
become which features. How a model is called on rows, and what its answers mean, is in `scoring`.
"""

from lakehouse.models.aliases import Alias, alias_in, alias_now, tag_of
from lakehouse.models.answers import alike, same
from lakehouse.models.attribution import Attribution, attribute
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
    isolation_refusal,
    recorded_environment,
    versions_in,
)
from lakehouse.models.exactness import is_exact
from lakehouse.models.examples import input_example
from lakehouse.models.flavors import NATIVE, Predictor, Trained
from lakehouse.models.flavors.calling import takes_columns
from lakehouse.models.frames import ANSWER, FrameInput, FrameModel, Part, open_on_frames
from lakehouse.models.given import Given
from lakehouse.models.glance import look_up
from lakehouse.models.holding import held
from lakehouse.models.isolated.building import Built, environment_for
from lakehouse.models.isolated.calling import IsolatedFolder, begin
from lakehouse.models.known import may_be_known, recall, remember
from lakehouse.models.loading import Folders, digest_of, forget, keep, load, pack, unpacked
from lakehouse.models.many import environment_key, fetch, pinned, resolve
from lakehouse.models.obtaining import obtain
from lakehouse.models.output_signature import output_type
from lakehouse.models.parameters import freeze, require_params
from lakehouse.models.patience import Patience
from lakehouse.models.policy import as_list as trust_list
from lakehouse.models.recording import log_run, move_alias, tag_version
from lakehouse.models.registry import FetchedModel, Resolved, is_local, needs_of
from lakehouse.models.signature import Inputs, features_of, inputs_of
from lakehouse.models.trained import held_to

__all__ = [
    "ANSWER", "NATIVE", "Alias", "Attribution", "Built", "Difference", "FetchedModel", "Folders", "FrameInput",
    "FrameModel", "Given", "Inputs", "IsolatedFolder", "Part", "Patience", "Predictor", "Recorded", "Resolved",
    "Trained", "alias_in", "alias_now", "alike", "attribute", "baselines_as_text", "baselines_from_text", "begin",
    "differences", "digest_of", "environment_for", "environment_here", "environment_key", "environment_refusal",
    "environment_summary", "expected_environment", "features_of", "fetch", "forget", "freeze", "held", "held_to",
    "input_example", "inputs_of", "is_exact", "is_local", "isolation_refusal", "keep", "load", "log_baseline",
    "log_run", "look_up", "may_be_known", "move_alias", "needs_of", "obtain", "open_on_frames", "output_type", "pack",
    "pinned", "recall", "recorded_environment", "remember", "require_params", "resolve", "same", "specs_of",
    "store_baseline", "stored_baseline", "tag_of", "tag_version", "takes_columns", "trust_list", "type_for",
    "unpacked", "versions_in",
]  # fmt: skip
