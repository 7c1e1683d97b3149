"""What a model was given of one row, and which rules the row passed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.checks.rules import Compiled
from lakehouse.scoring.inputs import features_in, model_given
from lakehouse.scoring.score import Counters, SuiteCounts

if TYPE_CHECKING:
    from lakehouse.operations.receipts.recomputing import Again


def features(row: pa.RecordBatch, again: Again) -> list[dict[str, Any]]:
    """The features as the model gets them: in Arrow's type, and as what its library sees."""
    made = features_in(row, again.scoring.features)
    given = model_given(row, again.scoring).as_input()
    return [
        {
            "name": str(f.name),
            "column": f.column,
            "value": made.column(i)[0].as_py(),
            "type": str(made.column(i).type),
            "given_as": _given_as(given, f.name),
        }
        for i, f in enumerate(again.scoring.features)
    ]


def _given_as(given: Any, name: str | int) -> str:
    """The dtype of a feature in what the model is called with: pandas' of its column, numpy's of the array."""
    if hasattr(given, "dtypes"):
        return str(given.dtypes.get(name, given.dtypes.iloc[0] if len(set(map(str, given.dtypes))) == 1 else "object"))
    if isinstance(given, Mapping):
        return "; ".join(f"{key} {array.dtype}" for key, array in given.items())
    return str(given.dtype) if isinstance(given, np.ndarray) else type(given).__name__


def rules_on(again: Again, counters: Counters) -> list[dict[str, Any]]:
    """Each row rule with whether the row passed it, None where it didn't count or wasn't reached."""
    suites: tuple[tuple[str, Compiled, SuiteCounts | None], ...] = (
        ("features", again.scoring.on_features, counters.features),
        ("scores", again.scoring.on_scores, counters.scores),
    )
    return [
        {
            "suite": suite,
            "name": rule.expectation.name,
            "severity": rule.expectation.severity,
            "columns": list(rule.own),
            "passed": None if not count.evaluated else not count.unexpected,
            "observed": count.examples[0] if count.examples else None,
        }
        for suite, compiled, counts in suites
        for rule, count in zip(compiled.rows, counts.rows if counts else (), strict=False)
    ]
