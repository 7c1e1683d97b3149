"""Answers go through a message and come back the same, bit for bit."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import zoneinfo
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix, issparse

from lakehouse.models.isolated.messages import Ended, Garbled, Receiver, send
from lakehouse.models.isolated.values import NotCarried, decode, encode

N = np.arange(7)
PAYLOAD_NAN = np.array([0x7FF8000000000123, 0xFFF0000000000000, 0x8000000000000000], np.uint64).view(np.float64)
INDEXED = pd.Series([1.5, None, 2.5], index=[3, 1, 2], name=("a", 1))
FRAME = pd.DataFrame(
    {
        "i": pd.Series([1, 2**62 + 1, -3]),
        "n": pd.array([1, None, 3], dtype="Int64"),
        "b": pd.array([True, None, False], dtype="boolean"),
        "f": pd.array([np.nan, None, 1.5], dtype="Float32"),
        "c": pd.Categorical(["x", None, "y"], categories=["y", "x", "z"], ordered=True),
        "t": pd.Series(pd.to_datetime(["2026-01-01", None, "1999-12-31 23:59:59.123456789"], format="ISO8601")),
        "z": pd.Series(pd.to_datetime(["2026-01-01", None, "2026-07-01"])).dt.tz_localize("Europe/Berlin"),
        "s": pd.array(["ä\0b", None, ""], dtype="string"),
        "o": pd.Series([1, "two", None], dtype=object),
    }
)
VALUES: dict[str, Any] = {
    "none": None,
    "numbers": [True, 3, -(2**63), 2**80, 1.5, float("inf"), -0.0, 2 + 3j],
    "texts": ["", "ä😀", "\ud800 alone", "a\0b", b"", b"\xff\0", None],
    "one text": "text",
    "doubles": N / 3,
    "odd doubles": PAYLOAD_NAN,
    "floats in Fortran order": np.asfortranarray(np.arange(12, dtype="f4").reshape(3, 4)),
    "not contiguous": np.arange(12.0).reshape(3, 4)[:, ::2],
    "rank 3": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "rank 0": np.array(1.5),
    "empty": np.empty((0, 3)),
    "half and long": [N.astype("f2"), N.astype(np.longdouble), N.astype(">i4"), N > 3],
    "times": [np.array(["2026-01-01", "NaT"], "M8[ns]"), np.array([1, 2], "m8[s]")],
    "fixed texts": [np.array(["a", "bcd"]), np.array([b"a", b"bcd"]), np.array(["", ""])],
    "objects": np.array([1, "a", None, [2.5]], object),
    "a row of objects": np.array([[1, "a"], [None, (1, 2)]], object),
    "arrays a row": [np.arange(n, dtype="f4") for n in (3, 0, 2)],
    "arrays of two types": [np.arange(2), np.arange(3.0), np.array([[1]])],
    "scalars": [np.float32(1.5), np.float64(2.5), np.int8(3), np.bool_(True), np.str_("x"), np.datetime64("2026-01-01")],
    "scalars of one type": [np.float32(x) for x in (1.5, 2.5)],
    "lists of lists": [[1.0, 2.0], [], [3.0, None]],
    "records": [{"a": 1, "b": [1.5]}, {"a": None, "b": []}],
    "uneven records": [{"a": 1}, {"b": 2, 3: "x"}, {}],
    "dict of arrays": {"p": np.arange(4.0).reshape(2, 2), "label": np.array(["a", "b"], object)},
    "tuple": (1, "a", (2,)),
    "dates": [dt.date(2026, 1, 2), dt.datetime(1969, 1, 1, 1, 2, 3, 4), dt.timedelta(days=-1, microseconds=3)],
    "times with zones": [
        dt.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.datetime(2026, 7, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    ],
    "decimals": [decimal.Decimal("1.10"), decimal.Decimal("NaN"), decimal.Decimal("-1E+30")],
    "stamps": [pd.Timestamp("2026-01-01 00:00:00.000000001"), pd.Timestamp("2026-01-01", tz="UTC"), pd.NaT, pd.NA],
    "spans": [pd.Timedelta("1 day 00:00:00.000000001")],
    "series": INDEXED,
    "frame": FRAME,
    "frame of two equal names": pd.DataFrame([[1, 2.5], [3, 4.5]], columns=["a", "a"], index=["r", "s"]),
    "frame without columns": pd.DataFrame(index=pd.RangeIndex(2, 10, 4)),
    "index of pairs": pd.Series([1, 2], index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "categories": pd.Categorical([1, 2, 1]),
    "masked": np.ma.MaskedArray([1.0, 2.0], [True, False]),
    "maps": pa.array([[(1, 0.5)], [], None], pa.map_(pa.int64(), pa.float32())),
    "chunks": pa.chunked_array([["a"], ["b", None]]),
}  # fmt: skip


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same, of the same types and to the last bit."""
    if isinstance(one, pa.ChunkedArray):
        return alike(one.combine_chunks(), other)
    if isinstance(one, pa.Array):
        return bool(one.type == other.type and one.equals(other))
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ma.MaskedArray):
        return alike(one.data, other.data) and alike(np.ma.getmaskarray(one), np.ma.getmaskarray(other))
    if isinstance(one, np.ndarray):
        same = one.shape == other.shape and one.dtype == other.dtype
        if one.dtype == object:
            return same and all(map(alike, one.ravel(), other.ravel()))
        return same and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    if isinstance(one, np.generic):
        return alike(np.array(one), np.array(other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(alike, one.values(), other.values()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=False)
        return True
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True, check_freq=False)
        return type(one.index) is type(other.index)
    if isinstance(one, pd.Categorical):
        return bool(one.equals(other))
    if isinstance(one, dt.datetime) and one.tzinfo is not None:
        return one == other and one.utcoffset() == other.utcoffset()
    return repr(one) == repr(other)


def through(value: Any) -> Any:
    """A value sent and received."""
    node, buffers = encode(value)
    stream = io.BytesIO()
    send(stream, {"said": node}, buffers)
    stream.seek(0)
    head, given = Receiver(stream).receive()
    return decode(head["said"], given)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_the_same(name):
    assert alike(VALUES[name], through(VALUES[name])), through(VALUES[name])


def test_a_sparse_matrix_comes_back_as_one():
    rng = np.random.default_rng(0)
    wanted = csr_matrix((rng.random((5, 4)) > 0.6) * rng.random((5, 4)))
    given = through(wanted)
    assert issparse(given)
    assert alike(wanted.toarray(), given.toarray())


def test_kinds_of_a_kind_come_back_as_it():
    pair = namedtuple("pair", "x y")
    assert through([OrderedDict(a=1), pair(1, 2)]) == [{"a": 1}, (1, 2)]


def test_another_librarys_array_comes_back_as_numpys():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.arange(3.0)

    assert alike(np.arange(3.0), through(Tensor()))


@pytest.mark.parametrize(
    ("value", "said"),
    [(object(), "builtins.object"), ({1, 2}, "builtins.set"), (np.zeros(2, [("a", "i4")]), "an array of"),
     (pd.Series(pd.period_range("2026", periods=2, freq="D")), "a column of period")],
)  # fmt: skip
def test_what_can_not_be_carried_is_refused_in_words(value, said):
    with pytest.raises(NotCarried, match=said):
        encode([value])


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", Ended), (b"HTTP/1.1 200 OK\r\n\r\n", Garbled), (b"LHM1\x02\0\0\0" + bytes(8) + b"[]", Garbled)],
)
def test_what_is_no_message_is_told_apart(content, error):
    with pytest.raises(error):
        Receiver(io.BytesIO(content)).receive()
