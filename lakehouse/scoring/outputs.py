"""A model's answer, in whatever form MLflow models give it, as Arrow arrays of the types that were settled for them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence, Set, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import ModelRefused, in_yaml
from lakehouse.scoring.isolation import isolate
from lakehouse.scoring.maps import has_map, with_maps
from lakehouse.scoring.pandas_values import is_frame, is_missing, is_series
from lakehouse.scoring.reasons import Broken

_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError)
_EXACT = 2**53
"""Up to here every whole number is a double."""
_SHOWN = 100
"""Characters of a value that doesn't fit."""
_PARTS = 8
"""Outputs of a model that are named in a message."""


@dataclass(frozen=True)
class Output:
    """One prediction column: which part of the model's output it is, its type, and an optional threshold."""

    name: str
    part: int | str  # column index, name of an output, or "*" for the whole output
    type: pa.DataType | None = None  # None until the model was tried on a few rows
    threshold: float | None = None

    @property
    def column_type(self) -> pa.DataType | None:
        """The type of its column: a boolean where there is a threshold."""
        return self.type if self.threshold is None else pa.bool_()


def numbers_among(outputs: Sequence[Output], *, labels: bool) -> list[Output]:
    """The outputs that are numbers and no class's label. `labels`: the model has classes, so that integers may be."""
    kinds = [(output, output.column_type) for output in outputs]
    return [
        output
        for output, kind in kinds
        if kind is not None and (pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not labels))
    ]


def read_outputs(answer: Any, rows: int, outputs: tuple[Output, ...]) -> tuple[list[pa.Array], list[Broken]]:
    """The model's answer as one Arrow array an output, each with `rows` values; and the rows with a value that
    doesn't fit its output's type, where the array is null.

    Takes what MLflow models answer with: a 1-D or 2-D array, dense or sparse, a Series, a DataFrame, a list, also of
    records, a dict of arrays, and for one row what it squeezed of these. Raises ModelRefused for another number of
    rows, for rows in another order by their index, and for a part that is not there.
    """
    _require_order(answer, rows)
    broken: list[Broken] = []
    arrays = [_read_output(answer, rows, output, broken) for output in outputs]
    return arrays, broken


def _read_output(answer: Any, rows: int, output: Output, broken: list[Broken]) -> pa.Array:
    values = _rows_of(_part(_rows_of(answer, rows), output, rows), rows)
    if isinstance(values, (str, bytes)) or not isinstance(values, Sized) or getattr(values, "ndim", 1) == 0:
        what = type(values).__name__
        raise ModelRefused(f"predictions.{output.name}: the model answered {rows} rows with a {what}, not with rows")
    if len(values) != rows:
        raise ModelRefused(
            f"predictions.{output.name}: the model answered {rows} rows with {len(values)} values, so that it isn't "
            "known which is whose"
        )
    try:
        array, unfit = _fit_type(values, output)
    except ModelRefused as refused:
        if output.part != "*" or not is_frame(answer) or answer.shape[1] < 2:
            raise
        raise _unnamed(output, list(answer.columns)) from refused
    broken += unfit
    if output.threshold is None:
        return array
    if not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        raise ModelRefused(f"predictions.{output.name}: a threshold needs numbers, the model gives {array.type}")
    above = pc.greater_equal(array, output.threshold)
    return pc.if_else(pc.is_nan(array), None, above) if pa.types.is_floating(array.type) else above


def _require_order(answer: Any, rows: int) -> None:
    """Refuse a frame whose index says that its rows are in another order than those that the model was given."""
    if not is_frame(answer) and not is_series(answer):
        return
    import pandas as pd

    if isinstance(answer.index, pd.RangeIndex):
        return
    index = answer.index.to_numpy()
    if len(index) != rows or index.dtype.kind not in "iu":
        return
    order = np.arange(rows)
    if not np.array_equal(index, order) and np.array_equal(np.sort(index), order):
        raise ModelRefused(
            "the model answers with the rows in another order than it was given them, by the index of its answer: let "
            "it answer in their order (answer.sort_index()), or with reset_index(drop=True) if the index means nothing"
        )


def _rows_of(answer: Any, rows: int) -> Any:
    """The answer with a row for each row: sparse ones dense, and that to a single row as it was before a squeeze."""
    if hasattr(answer, "toarray"):  # scipy's sparse matrices and arrays
        return answer.toarray()
    if isinstance(answer, pa.ChunkedArray):
        return answer.combine_chunks()
    if isinstance(answer, tuple):
        if any(isinstance(part, np.ndarray) or is_series(part) for part in answer):
            raise ModelRefused(
                f"the model answers with a tuple of {len(answer)} arrays, which may be rows or columns: let it answer "
                "with a dict of arrays, a name for each, or with one array"
            )
        return list(answer)
    if isinstance(answer, Set):
        raise ModelRefused("the model answers with a set, which has no order: let it answer with a list")
    if rows != 1 or isinstance(answer, Mapping):
        return answer
    if answer is None or isinstance(answer, (str, bytes)) or np.isscalar(answer):
        return [answer]
    if isinstance(answer, np.ndarray) and answer.ndim < 2 and answer.size > 1:
        return answer.reshape(1, -1)
    return answer.reshape(1) if isinstance(answer, np.ndarray) and answer.ndim == 0 else answer


def _part(answer: Any, output: Output, rows: int) -> Any:
    part = output.part
    if is_frame(answer):
        if part == "*":
            return answer.iloc[:, 0] if answer.shape[1] == 1 else _matrix(answer)
        names: list[Any] = list(answer.columns)
        if names.count(part) > 1:
            raise ModelRefused(
                f"predictions.{output.name}: the model answers with {names.count(part)} columns {part!r}: name one of "
                f"them by its place, {' or '.join(str(at) for at, name in enumerate(names) if name == part)}"
            )
        if isinstance(part, int) and part < len(names):  # a place, whatever the columns are called
            return answer.iloc[:, part]
        return answer.iloc[:, names.index(part)] if part in names else _absent(output, names, len(answer))
    if isinstance(answer, Mapping):
        if part == "*" and len(answer) == 1 and part not in answer:  # as of a frame with one column
            return _unfolded(next(iter(answer.values())))
        return _unfolded(answer[part]) if part in answer else _absent(output, list(answer), rows)
    if isinstance(answer, list) and answer:
        if isinstance(part, str) and part != "*" and all(isinstance(row, Mapping) for row in answer):
            return _field(answer, output)
        if all(isinstance(row, np.ndarray) and row.ndim > 1 for row in answer):
            raise ModelRefused(
                f"predictions.{output.name}: the model answers with a list of {len(answer)} matrices, as classifiers "
                "of several targets do: log a model that gives one matrix, or one for each target"
            )
    if part == "*" or (part == 0 and is_series(answer)):
        return _unfolded(answer)
    if isinstance(part, str):
        raise ModelRefused(f"predictions.{output.name}: the model's output has no names, so no {part!r}")
    if answer is None or not isinstance(answer, Sized):
        return answer
    return _column(answer, part, output)


def _unfolded(answer: Any) -> Any:
    """An array of rows × 1, as of a net with one output or CatBoost's labels, as one of rows."""
    return answer[:, 0] if isinstance(answer, np.ndarray) and answer.ndim == 2 and answer.shape[1] == 1 else answer


def _matrix(frame: Any) -> Any:
    """The frame's rows as one array; as lists of its values where numbers of several types would change by that."""
    matrix = frame.to_numpy()
    wide = [column for name in range(frame.shape[1]) if (column := frame.iloc[:, name]).dtype.kind in "iu"]
    if matrix.dtype.kind == "f" and any(((column > _EXACT) | (column < -_EXACT)).any() for column in wide):
        return frame.astype(object).to_numpy().tolist()
    return matrix


def _field(records: Sequence[Mapping[Any, Any]], output: Output) -> list[Any]:
    if not any(output.part in record for record in records):
        return _absent(output, list(dict.fromkeys(name for record in records for name in record)), len(records))
    return [record.get(output.part) for record in records]


def _absent(output: Output, known: Sequence[Any], rows: int) -> list[Any]:
    """Nulls for an output that none of these rows has, as of records that need not have it; refused on a sample."""
    if output.part == "*":
        raise _unnamed(output, known)
    if output.type is None or not isinstance(output.part, str) or output.part == "*":
        raise ModelRefused(f"predictions.{output.name}: the model has no output {output.part!r}, it has {list(known)}")
    return [None] * rows


def _unnamed(output: Output, known: Sequence[Any]) -> ModelRefused:
    """The refusal of an answer whose parts make no column together."""
    each = ", ".join(f"{in_yaml(str(name))}: {in_yaml(str(name))}" for name in known[:_PARTS])
    more = ", …" if len(known) > _PARTS else ""
    return ModelRefused(
        f"predictions.{output.name}: the model answers with {len(known)} outputs, which make no column together: name "
        f"those that you want, as in predictions: {{{each}{more}}}"
    )


def _column(answer: Any, part: int, output: Output) -> Any:
    # Rows of Python's own may be of several types: as an array they would all become of one.
    of_rows = isinstance(answer, list) and bool(answer) and all(isinstance(row, (list, tuple)) for row in answer)
    try:
        matrix: Any = answer if of_rows or isinstance(answer, np.ma.MaskedArray) else np.asarray(answer)
        width = _width_of(matrix)
    except ValueError:
        raise ModelRefused(f"predictions.{output.name}: no column {part}, the model's rows differ in length") from None
    if part >= width:
        raise ModelRefused(f"predictions.{output.name}: no column {part}, the model's output has {width}")
    if of_rows:
        return [row[part] for row in answer]
    return matrix[:, part] if matrix.ndim > 1 else answer


def _width_of(matrix: Any) -> int:
    """The number of columns of an array, or of a list of rows. Raises ValueError where these differ in length."""
    if not isinstance(matrix, list):
        return int(matrix.shape[1]) if matrix.ndim > 1 else 1
    (width,) = {len(row) for row in matrix}
    return width


def _fit_type(values: Any, output: Output) -> tuple[pa.Array, list[Broken]]:
    """The values in the output's type, null where one doesn't fit, and the rows of those."""
    wanted = output.type
    if output.threshold is not None:
        wanted = pa.float64() if wanted is not None else None

    def ask(start: int, stop: int) -> Any:
        try:
            return _fitted(_slice(values, start, stop), wanted)
        except _UNFIT as error:
            return error

    try:
        whole = _fitted(values, wanted)
    except _UNFIT as error:
        if wanted is None:
            what = f"the model's values ({_types_of(values)}) make no column"
            raise ModelRefused(f"predictions.{output.name}: {what}: {error}") from error
        parts = isolate(len(values), error, ask)
    else:
        return whole, []
    rows = np.array([start for start, _, answer in parts if isinstance(answer, Exception)], np.int64)
    texts = [_text(_slice(values, row, row + 1)) for row in rows]
    arrays = [pa.nulls(1, wanted) if isinstance(answer, Exception) else answer for _, _, answer in parts]
    return pa.concat_arrays(arrays), [Broken("output_type", output.name, rows, pa.array(texts, pa.string()))]


def _types_of(values: Any) -> str:
    """What the values are, in Python's or numpy's words."""
    dtype = getattr(values, "dtype", None)
    if dtype is not None and str(dtype) != "object":
        return str(dtype)
    return ", ".join(dict.fromkeys(type(value).__name__ for value in values))


def _fitted(values: Any, wanted: pa.DataType | None) -> pa.Array:
    if wanted is not None and has_map(wanted) and not isinstance(values, pa.Array):
        return with_maps(values, wanted, lambda part, kind: _fit(_arrow(part), kind))
    return _fit(_arrow(values), wanted)


def _slice(values: Any, start: int, stop: int) -> Any:
    return values.iloc[start:stop] if is_series(values) else values[start:stop]


def _text(values: Any) -> str:
    value = next(iter(values))
    return f"{value!s} ({type(value).__name__})"[:_SHOWN].encode(errors="replace").decode()


def _arrow(values: Any) -> pa.Array:
    """Values of one part of an answer in the Arrow type that is theirs by themselves."""
    if isinstance(values, pa.Array):
        return values
    if is_series(values):
        import pandas as pd

        if isinstance(values.dtype, (np.dtype, pd.SparseDtype)):
            values = values.to_numpy()  # pandas' own types keep their nulls, and integers every digit
    if isinstance(values, np.ma.MaskedArray) and values.ndim == 1:
        return pa.array(values.data, mask=np.ma.getmaskarray(values))
    if isinstance(values, np.ndarray) and values.ndim > 1 and values.dtype != object:
        return _lists(values)
    if isinstance(values, (np.ndarray, list)):
        plain = values.tolist() if isinstance(values, np.ndarray) and values.dtype == object else values
        _require_one_clock(plain)
        try:
            return pa.array(plain, from_pandas=False)  # NaN is a value here, not a missing one
        except pa.ArrowException:
            plain = [None if is_missing(value) else value for value in plain]
        try:
            return pa.array(plain, from_pandas=False)
        except pa.ArrowException:
            return pa.array(plain, from_pandas=True)  # but among texts and the like it can only mean a missing one
    array = pa.array(values, from_pandas=False)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _require_one_clock(values: Any) -> None:
    """Raise TypeError for times of which some have a zone and others none: nobody knows what zone these are of."""
    times = [v for v in values if isinstance(v, dt.datetime)] if isinstance(values, list) else []
    if len({time.tzinfo is None for time in times if not is_missing(time)}) > 1:
        raise TypeError("times with a zone and others without one")


def _lists(values: Any) -> pa.Array:
    """An array of several dimensions as lists, of lists where there are more than two."""
    hidden = np.ma.getmaskarray(values).ravel() if isinstance(values, np.ma.MaskedArray) else None
    made = pa.array(np.ascontiguousarray(values).ravel(), mask=hidden)
    for axis in range(values.ndim - 1, 0, -1):
        count, size = int(np.prod(values.shape[:axis])), values.shape[axis]
        made = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * size, made)
    return made


def _fit(array: pa.Array, wanted: pa.DataType | None) -> pa.Array:
    """The values in another type of their kind. Raises ArrowInvalid or TypeError where one would change by it."""
    if wanted is None or array.type == wanted:
        return array
    if not _of_a_kind(array.type, wanted):
        raise TypeError(f"{array.type} is not {wanted}")
    if pa.types.is_floating(array.type) and pa.types.is_integer(wanted):
        array = pc.if_else(pc.is_nan(array), None, array)  # how numbers say that one is missing among integers
    if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(array.type) and array.type.unit == "ns":
        return pc.floor_temporal(array, unit="microsecond").cast(wanted)  # no table holds finer times
    return array.cast(wanted, safe=True)


def _of_a_kind(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of `given` may turn out to be values of `wanted`: numbers, texts, times; no text is a number."""
    if pa.types.is_null(given):
        return True
    if pa.types.is_list(wanted) and (pa.types.is_list(given) or pa.types.is_large_list(given)):
        return _of_a_kind(given.value_type, wanted.value_type)
    if pa.types.is_struct(wanted) and pa.types.is_struct(given):
        mine = {f.name: f.type for f in given}
        return set(mine) <= {f.name for f in wanted} and all(
            f.name not in mine or _of_a_kind(mine[f.name], f.type) for f in wanted
        )
    if pa.types.is_map(wanted):
        return bool(pa.types.is_map(given))
    if pa.types.is_timestamp(given) and pa.types.is_timestamp(wanted):
        return (given.tz is None) == (wanted.tz is None)
    return _kind(given) == _kind(wanted) or (pa.types.is_date(given) and pa.types.is_timestamp(wanted))


def _kind(given: pa.DataType) -> str:
    tests = {
        "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "bytes": (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary),
        "date": (pa.types.is_date,),
    }
    return next((name for name, kinds in tests.items() if any(test(given) for test in kinds)), str(given))


def settle_type(declared: pa.DataType | None, seen: pa.Array) -> tuple[pa.DataType, bool]:
    """The type for an output: the declared one where it holds what the model answered to a sample, else the sample's.

    The second value says whether the sample contradicts what was declared. A type of null means that nothing is known.
    """
    if declared is None or declared == seen.type:
        return seen.type, False
    if pa.types.is_floating(seen.type) and pa.types.is_floating(declared):
        return max(seen.type, declared, key=lambda kind: kind.bit_width), False  # no digit is cut
    if pa.types.is_timestamp(seen.type) and pa.types.is_timestamp(declared):
        return seen.type, False  # MLflow's datetime says nothing of a zone
    try:
        _fit(seen, declared)
    except _UNFIT:
        return seen.type, True
    return declared, False
