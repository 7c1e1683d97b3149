"""What a model is given: Arrow columns, and the frame or arrays that are made of them where the model runs.

That may be a process with other libraries, which has its own pandas make the frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.models.conversions import numpy_type
from lakehouse.models.nested import entries, is_list, is_nested
from lakehouse.schemas import Tensor


@dataclass(frozen=True)
class Given:
    """Rows as Arrow columns of the features' types. `required`: of each whether none of its parts may be null.

    `tensors`: the arrays that the columns make, in their order, for a model that takes no frame.
    """

    rows: int
    columns: tuple[pa.Array, ...]
    names: tuple[Any, ...]
    required: tuple[bool, ...]
    tensors: tuple[Tensor, ...] = ()

    def as_matrix(self, *, mixed: bool = False) -> Any | None:
        """The rows as one new Fortran-ordered matrix: what `as_input`'s frame holds, NaN for null.

        None where that frame is no matrix of numbers: for tensors, for columns that are not all float64 or all float32,
        and for integers with nulls. `mixed`: columns of several numeric types make a matrix of the type that numpy, and
        so pandas, has for all of them.
        """
        return next(self.as_matrices(self.rows, mixed=mixed), None)

    def as_matrices(self, most: int, *, mixed: bool = False) -> Iterator[Any]:
        """`as_matrix` in pieces of at most `most` rows, at least one; none where it is None."""
        dtype = self._dtype(mixed)
        if dtype is None:
            return
        columns = [column.to_numpy(zero_copy_only=False) for column in self.columns]
        for start in range(0, max(self.rows, 1), max(most, 1)):
            matrix = np.empty((min(most, self.rows - start), len(columns)), dtype=dtype, order="F")
            for i, column in enumerate(columns):
                matrix[:, i] = column[start : start + most]
            yield matrix

    def _dtype(self, mixed: bool) -> Any | None:
        """The type of `as_matrix`, None where there is no such matrix."""
        if self.tensors or not self.columns:
            return None
        kinds = {column.type for column in self.columns}
        if not (mixed or kinds in ({pa.float64()}, {pa.float32()})):
            return None
        if not all(pa.types.is_floating(kind) or pa.types.is_integer(kind) for kind in kinds):
            return None
        if any(column.null_count and pa.types.is_integer(column.type) for column in self.columns):
            return None
        return np.result_type(*map(numpy_type, kinds))

    def as_input(self) -> Any:
        """A DataFrame with these names, or the tensors as arrays.

        Made afresh, writable and with an index from 0 at every call: nothing that a model changes in it is in the
        columns. Such as are all float64 (or all float32) are laid column by column into one Fortran-ordered matrix,
        which pandas wraps without a copy and scikit-learn reads as it is. Nulls become NaN in floats, NaT in
        datetimes and None in strings, booleans and nested values; optional integers with nulls become pandas'
        `Int64`, which keeps every digit.
        """
        import pandas as pd

        if self.tensors:
            return tensors(self.tensors, self.columns, self.rows)
        if (matrix := self.as_matrix()) is not None:
            return pd.DataFrame(matrix, columns=list(self.names), copy=False)
        parts = zip(self.names, self.columns, self.required, strict=True)
        values = {name: pandas_column(column, required) for name, column, required in parts}
        return pd.DataFrame(values, index=pd.RangeIndex(self.rows))


def pandas_column(column: pa.Array, required: bool) -> Any:
    """A column as pandas takes it into a frame, which copies it; `required`: none of its parts may be null.

    Lists are arrays, as Spark gives them to `mlflow.pyfunc.spark_udf`; structs and maps are dicts, as MLflow's look at
    a frame leaves them.
    """
    import pandas as pd

    if is_nested(column.type):
        return _boxed(_objects(column, required))
    nullable = None
    if pa.types.is_integer(column.type) and column.null_count:
        nullable = {column.type: pd.api.types.pandas_dtype(f"Int{column.type.bit_width}")}.get
    return column.to_pandas(types_mapper=nullable)


def _objects(column: pa.Array, required: bool) -> list[Any]:
    """A value a row: an array for a list, a dict for a struct or a map, None for a null."""
    if is_list(column.type):
        return _arrays(column, required)
    if pa.types.is_map(column.type):
        starts, lengths, keys, items = entries(column)
        pairs = list(zip(keys.to_pylist(), _values(items, required), strict=True))
        made = [dict(pairs[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
    else:
        fields = zip(column.type, column.flatten(), strict=True)
        parts = [_values(part, not field.nullable) for field, part in fields]
        names = [field.name for field in column.type]
        rows = zip(*parts, strict=True) if parts else ((),) * len(column)
        made = [dict(zip(names, values, strict=True)) for values in rows]
    return made if column.null_count == 0 else _where(made, column.is_valid())


def _values(column: pa.Array, required: bool) -> list[Any]:
    """The values of a part of a dict, as MLflow leaves them there: numpy's scalars, and None for what is missing.

    That is a NaN, too, where it is optional.
    """
    import pandas as pd

    if is_nested(column.type):
        return _objects(column, required)
    if pa.types.is_timestamp(column.type):
        return [None if value is pd.NaT else value for value in column.to_pandas()]
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        return list(column.to_pylist())
    there = column.is_valid()
    if not required and pa.types.is_floating(column.type):
        there = pc.and_(there, pc.invert(pc.fill_null(pc.is_nan(column), True)))
    nothing = False if pa.types.is_boolean(column.type) else 0
    found = list(pc.fill_null(column, nothing).to_numpy(zero_copy_only=False))
    return found if pc.all(there).as_py() is not False else _where(found, there)


def _where(values: Sequence[Any], there: pa.Array) -> list[Any]:
    """The values, None for those that are not there."""
    return [value if is_there else None for value, is_there in zip(values, there.to_pylist(), strict=True)]


def _arrays(column: pa.Array, required: bool) -> list[Any]:
    """Lists as arrays; lists of lists of one length as arrays of two dimensions."""
    items = pc.list_flatten(column)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    if not is_nested(items.type):
        inner: Any = np.array(items.to_numpy(zero_copy_only=False))
    else:
        inner = _boxed(_objects(items, required))
    made: list[Any] = []
    for stop, length, there in zip(np.cumsum(lengths), lengths, column.is_valid().to_pylist(), strict=True):
        part = inner[stop - length : stop]
        regular = is_list(items.type) and len({np.shape(v) for v in part}) == 1
        made.append(None if not there else np.stack(part) if regular else part)
    return made


def _boxed(values: Sequence[Any]) -> Any:
    """An array of objects, whatever they are."""
    made = np.empty(len(values), object)
    for place, value in enumerate(values):
        made[place] = value
    return made


def tensors(given: Sequence[Tensor], columns: Sequence[pa.Array], rows: int) -> Any:
    """The arrays of the tensors by their names; the array itself of one without a name."""
    made, at = {}, 0
    for tensor in given:
        made[tensor.name] = _tensor(tensor, columns[at : at + tensor.columns], rows)
        at += tensor.columns
    return made.get(None, made)


def _tensor(tensor: Tensor, columns: Sequence[pa.Array], rows: int) -> Any:
    """One array: of several columns in Fortran order, which scikit-learn reads as it is; a copy in any case."""
    if len(columns) == 1:
        items = columns[0]
        while is_list(items.type):
            items = pc.list_flatten(items)
        return _array(items, tensor.dtype).reshape(rows, *tensor.shape)
    if tensor.dtype in ("str", "object"):
        return np.column_stack([_array(column, tensor.dtype) for column in columns])
    matrix = np.empty((rows, len(columns)), dtype=tensor.dtype, order="F")
    for i, column in enumerate(columns):
        matrix[:, i] = column.to_numpy(zero_copy_only=False)
    return matrix


def _array(items: pa.Array, dtype: str) -> Any:
    """Values as a new array; texts as numpy's own of one width, or as objects."""
    values = items.to_numpy(zero_copy_only=False)
    return np.array(values, str if dtype == "str" else dtype)
