"""Models: alias → version → local bytes → digest → policy → predictor. The only importer of MLflow.

`registry` fetches, `policy` judges before a byte of the model runs, `loading` loads, `signature` says which columns
become which features. How a model is called on rows, and what its answers mean, is in `scoring`.
"""

from typing import TYPE_CHECKING

from lakehouse import deferred

if TYPE_CHECKING:
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

__getattr__ = deferred.names_of(
    __name__,
    {
        "aliases": "Alias alias_in alias_now tag_of",
        "answers": "alike same",
        "attribution": "Attribution attribute",
        "baselines": "baselines_as_text=as_text baselines_from_text=from_text log_baseline store_baseline "
        "stored_baseline",
        "conversions": "type_for",
        "declared": "specs_of",
        "environment": "Difference Recorded differences environment_here environment_refusal environment_summary "
        "expected_environment isolation_refusal recorded_environment versions_in",
        "exactness": "is_exact",
        "examples": "input_example",
        "flavors": "NATIVE Predictor Trained",
        "flavors.calling": "takes_columns",
        "frames": "ANSWER FrameInput FrameModel Part open_on_frames",
        "given": "Given",
        "glance": "look_up",
        "holding": "held",
        "isolated.building": "Built environment_for",
        "isolated.calling": "IsolatedFolder begin",
        "known": "may_be_known recall remember",
        "loading": "Folders digest_of forget keep load pack unpacked",
        "many": "environment_key fetch pinned resolve",
        "obtaining": "obtain",
        "output_signature": "output_type",
        "parameters": "freeze require_params",
        "patience": "Patience",
        "policy": "trust_list=as_list",
        "recording": "log_run move_alias tag_version",
        "registry": "FetchedModel Resolved is_local needs_of",
        "signature": "Inputs features_of inputs_of",
        "trained": "held_to",
    },
)
