"""What the model is called with: the rows that can be given to it, and the frame or matrix they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contract import Feature, as_feature
from lakehouse.reasons import Broken, Numbers

if TYPE_CHECKING:
    from lakehouse.scoring import Scoring


def unfit(batch: pa.RecordBatch, scoring: Scoring) -> list[Broken]:
    """Rows that can't be given to the model: a null key, or a null that the feature's type can't hold.

    With `nulls: quarantine` every null in a required feature is such, and every NaN or infinity.
    """
    broken = [Broken("key_not_null", name, _null_rows(batch.column(name))) for name in scoring.keys]
    for feature in scoring.features:
        column = batch.column(feature.column)
        holds_null = not (pa.types.is_integer(feature.type) or pa.types.is_boolean(feature.type))
        if feature.required and (scoring.nulls == "quarantine" or not holds_null):
            broken.append(Broken("required", feature.column, _null_rows(column)))
        if feature.required and scoring.nulls == "quarantine" and pa.types.is_floating(column.type):
            broken.append(_not_finite(feature.column, column))
    return [b for b in broken if len(b.rows)]


def _not_finite(name: str, column: pa.Array) -> Broken:
    rows = np.flatnonzero(pc.fill_null(pc.invert(pc.is_finite(column)), False).to_numpy(zero_copy_only=False))
    return Broken("finite", name, rows, column.take(pa.array(rows, pa.int64())).cast(pa.string()))


def _null_rows(column: pa.Array) -> Numbers:
    if column.null_count == 0:
        return np.empty(0, np.int64)
    return np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))


def model_input(batch: pa.RecordBatch, scoring: Scoring) -> Any:
    """What the model is called with: a DataFrame with the signature's names and dtypes, or a 2-D array.

    Features that are all float64 (or all float32) are laid column by column into one Fortran-ordered matrix,
    which pandas wraps without a copy and scikit-learn reads as it is. Nulls become NaN in floats and None in
    strings; optional integers with nulls become pandas' `Int64`, which keeps every digit.
    """
    kinds = {feature.type for feature in scoring.features}
    names = [feature.name for feature in scoring.features]
    if kinds in ({pa.float64()}, {pa.float32()}) or scoring.matrix:
        dtype = next(iter(kinds)).to_pandas_dtype()
        matrix = np.empty((batch.num_rows, len(names)), dtype=dtype, order="F")
        for i, feature in enumerate(scoring.features):
            matrix[:, i] = as_feature(batch.column(feature.column), feature.type).to_numpy(zero_copy_only=False)
        return matrix if scoring.matrix else pd.DataFrame(matrix, columns=names, copy=False)
    return pd.DataFrame({feature.name: _series(batch.column(feature.column), feature) for feature in scoring.features})


def _series(column: pa.Array, feature: Feature) -> pd.Series[Any]:
    column = as_feature(column, feature.type)
    nullable = None
    if pa.types.is_integer(feature.type) and column.null_count:
        nullable = {feature.type: pd.api.types.pandas_dtype(f"Int{feature.type.bit_width}")}.get
    series: pd.Series[Any] = column.to_pandas(types_mapper=nullable)
    return series
