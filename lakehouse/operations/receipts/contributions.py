"""What each feature contributed to a score: exact where the model lets it be, by trying other values where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import models
from lakehouse.scoring.inputs import model_given, model_input
from lakehouse.scoring.outputs import numbers_among, read_outputs

if TYPE_CHECKING:
    from lakehouse.operations.receipts.recomputing import Again

ROWS = 64
"""Rows of the input that a row is held against."""


def contributions(again: Again, row: pa.RecordBatch, others: pa.RecordBatch) -> dict[str, Any]:
    """The contribution of each feature to one row's prediction, the largest first, with the method's name.

    `row`: one row of the input, `others`: some rows of it, its baseline. "method" says what the numbers are,
    "prediction" of which output they are, "base" what they start from where they add up.
    """
    outputs = again.scoring.outputs
    output = next(iter(numbers_among(outputs, labels=again.predictor.classes is not None)), None)
    if output is None:
        return {"method": "none: no prediction of this model is a number", "prediction": None, "features": []}
    given, base = (model_given(batch, again.scoring).as_input() for batch in (row, others))
    names = [str(feature.name) for feature in again.scoring.features]
    found = models.attribute(again.predictor, given, base, output.part)
    if found is not None and found.values.shape == (1, len(names)):
        method, values, start = found.method, found.values[0], {"base": found.base}
    else:
        method, values, start = (
            _PERMUTATION.format(rows=others.num_rows),
            _permuted(again, row, others, outputs.index(output)),
            {},
        )
    order = np.argsort(-np.abs(np.nan_to_num(values)), kind="stable")
    parts = [{"name": names[i], "contribution": float(values[i])} for i in order]
    return {"method": method, "prediction": output.name, **start, "features": parts}


_PERMUTATION = (
    "permutation: how far the prediction is, on average, from the one with the feature's value of {rows} other rows of "
    "the input; these numbers don't add up"
)


def _permuted(again: Again, row: pa.RecordBatch, others: pa.RecordBatch, number: int) -> Any:
    """By feature the row's prediction less the mean of those with the feature's value of other rows (float64)."""
    own = _answer(again, row, number)[0]
    same = row.take(pa.array(np.zeros(others.num_rows, np.int64)))
    found = []
    for feature in again.scoring.features:
        place = same.schema.get_field_index(feature.column)
        changed = same.set_column(place, same.schema.field(place), others.column(feature.column))
        found.append(own - float(np.nanmean(_answer(again, changed, number))))
    return np.array(found)


def _answer(again: Again, batch: pa.RecordBatch, number: int) -> Any:
    """The prediction of each row (float64), NaN where the model gives none."""
    answer = again.predict(model_input(batch, again.scoring, again.predict))
    arrays, _ = read_outputs(answer, batch.num_rows, again.scoring.outputs)
    return arrays[number].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
