"""Whether a worker is like the driver: its versions, and its answers to golden rows. Runs where the worker does."""

from __future__ import annotations

import socket
from typing import Any

from lakehouse import models
from lakehouse.errors import LakehouseError, ModelRefused
from lakehouse.scoring import golden
from lakehouse.scoring.golden import Expected
from lakehouse.scoring.score import Predict
from lakehouse.scoring.staging import Staging, open_models


def open_if_alike(folders: models.Folders, staging: Staging) -> tuple[Predict, tuple[Predict, ...]]:
    """Load the model and its challengers from their folders, in a worker on what may be another machine.

    Raises ModelRefused where it can't be loaded here, and where versions here, or its answers to the golden rows, are
    others than they must be.
    """
    expected = staging.expected
    if expected is not None and expected.strict:
        here = models.environment_here(expected.environment.packages)
        if differing := decisive(expected, here):
            raise ModelRefused(models.environment_refusal(differing, {f"executor {socket.gethostname()}": here}))
    predict, challengers = open_models(folders, staging)
    if expected is not None and expected.strict and (said := _other_answers(staging, predict)):
        raise ModelRefused(other_answers_refusal([(socket.gethostname(), said)]))
    return predict, challengers


def decisive(expected: Expected, here: dict[str, str | None]) -> list[models.Difference]:
    """The differences of versions that decide."""
    return [d for d in models.differences(expected.environment, here) if d.decides]


def look(folders: models.Folders, staging: Staging) -> dict[str, Any]:
    """What a worker has and how it answers: its host, versions, and where its golden rows differ, in words."""
    assert staging.expected is not None
    here = models.environment_here(staging.expected.environment.packages)
    said = ""
    if not decisive(staging.expected, here):
        try:
            predictor = models.load(folders[staging.digest], staging.digest, staging.method, staging.params)
            said = _other_answers(staging, predictor.way(direct=staging.direct))
        except LakehouseError as error:
            said = str(error)
    return {"host": socket.gethostname(), "versions": here, "answers": said}


def other_answers_refusal(found: list[tuple[str, str]]) -> str:
    """Why executors may not score, by host what they answer."""
    hosts = "; ".join(f"executor {host}: {said}" for host, said in dict(found).items())
    return (
        f"the model answers its golden rows differently than on the driver: {hosts}. Give driver and executors the "
        "same packages, or accept it: model: {environment: warn}"
    )


def _other_answers(staging: Staging, predict: Predict) -> str:
    known = staging.expected.golden if staging.expected else None
    if known is None:
        return ""
    return golden.describe_differences(known.answers, golden.answer(known.rows, staging.scoring, predict))
