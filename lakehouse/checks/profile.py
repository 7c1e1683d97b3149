"""What the features and predictions of a run look like, and how far that is from a baseline. Pure.

Workers `start`, `observe` batch by batch and `dump`; the driver merges the dumps and holds the `Profile` against a
`Baseline`, whose edges are bounds of the sketches' frozen bins, so that counts carry over to them exactly, as long as
the run's values don't spread so much wider that its bins are coarser than the baseline's (`_align`).

From samples of n and m rows of one and the same distribution, a PSI over b bins is (b - 1)(1/n + 1/m) on average: for
20 bins and 4,096 rows on both sides 0.009, and twice that in 1 of 100 cases. Source: Yurdakul and Naranjo,
"Statistical properties of the population stability index", Journal of Risk Model Validation 14(4), 2020.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.checks.sketch import (
    Floats,
    Ints,
    Profile,
    Sketch,
    Sketches,
    bounds,
    dump,
    keys_of,
    merge,
    observe,
    start,
    take_in,
)
from lakehouse.errors import ConfigError
from lakehouse.formats import BASELINE, known_fields

__all__ = [
    "PROFILES", "Baseline", "BaselineColumn", "ColumnDrift", "Profile", "Sketches",
    "baseline_of", "bins", "drift", "dump", "merge", "observe", "start",
    "take_in",
]  # fmt: skip

BINS, SHOWN = 20, 50
"""About as many bins, or values of a text, has a column of a baseline."""
FLOOR = 1e-4
"""The share of rows that an emptier bin is taken for in the PSI, on both sides: else one row could make it infinite."""
_TINY = 1e-300

PROFILES = pa.schema(
    [
        pa.field("column", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),  # Arrow's name of it
        pa.field("bin", pa.int32(), nullable=False),  # from 0, in order of the values; specials stand around them
        pa.field("kind", pa.string(), nullable=False),  # range, value, other, -inf, inf, nan or null
        pa.field("label", pa.string(), nullable=False),
        pa.field("lower", pa.float64()),  # inclusive; null: no bound. Dates: days, times: seconds since 1970
        pa.field("upper", pa.float64()),  # exclusive
        pa.field("count", pa.int64()),  # rows of the run, as the sample tells; null: the run lacks the column
        pa.field("fraction", pa.float64()),  # of all rows
        pa.field("baseline_fraction", pa.float64()),  # null: the baseline lacks the column
        pa.field("psi", pa.float64()),  # this bin's part of the sum
    ]
)


@dataclass(frozen=True)
class BaselineColumn:
    """A column's frozen bins and how its rows spread over them.

    Numbers: ascending finite `edges`, n of them bound n + 1 bins [lower, upper), of which the outermost lie beyond
    anything seen; `fractions` are those of -inf, the bins, inf, NaN, null. Texts: `values`, the most frequent first;
    `fractions` are those of the values, all others, null. They are shares of all rows; `sampled` says of how many rows
    they were taken. `mean` and `deviation` are of finite values, each to half a bin.
    """

    type: str
    text: bool
    rows: int
    sampled: int
    fractions: tuple[float, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    mean: float | None = None
    deviation: float | None = None

    @property
    def null_fraction(self) -> float:
        return self.fractions[-1]


@dataclass(frozen=True)
class Baseline:
    """What the columns looked like when they were as they should be."""

    columns: Mapping[str, BaselineColumn]

    def to_json(self) -> str:
        """Strict JSON with a version; floats are exact."""
        columns = {name: asdict(column) for name, column in self.columns.items()}
        content = {"version": BASELINE.version, "columns": columns}
        return json.dumps(content, allow_nan=False, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Baseline:
        """Read `to_json`'s text. Raises ConfigError where it is none, or one of a newer version."""
        try:
            said = json.loads(text)
            if said["version"] not in range(1, BASELINE.version + 1):
                raise ConfigError(
                    f"the baseline has version {said['version']!r}, this program reads {BASELINE.version}: "
                    "upgrade lakehouse"
                )
            lists = ("fractions", "edges", "values")
            columns = {n: c | {part: tuple(c[part]) for part in lists} for n, c in said["columns"].items()}
            return Baseline(
                {n: BaselineColumn(**known_fields(BaselineColumn, column)) for n, column in columns.items()}
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"not a baseline: {error!r}; make it anew") from error


@dataclass(frozen=True)
class ColumnDrift:
    """How far a column is from its baseline.

    `status`: compared; added (the baseline lacks it), missing (the run lacks it), retyped (number there, text here or
    the reverse) or empty (one side has no rows): then there are no distances. `psi` is the population stability index,
    0 and up; `js` the Jensen-Shannon distance to base 2, 0 to 1; both take nulls, NaN and infinities as bins. `ks` is
    the greatest difference of the two distribution functions at the bins' edges, 0 to 1, of numbers that are not NaN
    or null; None for texts. `noise` is the PSI that sampling alone gives on average. `unseen` is the share of rows in
    bins of which the baseline has none.
    """

    column: str
    status: str
    psi: float | None = None
    js: float | None = None
    ks: float | None = None
    noise: float | None = None
    unseen: float | None = None
    rows: int | None = None
    null_fraction: float | None = None
    mean: float | None = None
    deviation: float | None = None
    baseline_rows: int | None = None
    baseline_null_fraction: float | None = None
    baseline_mean: float | None = None
    baseline_deviation: float | None = None


def baseline_of(profile: Profile) -> Baseline:
    """Freeze a profile's bins: about `BINS` of equal weight, and a value with more than that has one of its own."""
    return Baseline({name: _freeze(sketch) for name, sketch in profile.columns.items()})


def _freeze(sketch: Sketch) -> BaselineColumn:
    if sketch.text:
        ranked = sorted(sorted(sketch.values.items()), key=itemgetter(1), reverse=True)
        values = tuple(value for value, _ in ranked[:SHOWN])
        frozen = BaselineColumn(sketch.type, True, sketch.rows, sketch.sampled, (), values=values)
    else:
        mean, deviation = _moments(sketch)
        edges = tuple(_edges(sketch).tolist())
        frozen = BaselineColumn(sketch.type, False, sketch.rows, sketch.sampled, (), edges, (), mean, deviation)
    return replace(frozen, fractions=tuple(_fractions(sketch, frozen).tolist()))


def _edges(sketch: Sketch) -> Floats:
    """Bounds of bins of which none is empty, but for the two beyond all values.

    Values with a share of 1/BINS and more stand alone; the stretches between them are parted into equal shares.
    """
    keys, counts = sketch.keys, sketch.counts
    if not len(keys):
        return np.empty(0)
    total, heavy = counts.sum(), counts * BINS >= counts.sum()
    turns = np.flatnonzero(heavy[1:] | heavy[:-1]) + 1
    begins = []
    for stretch in np.split(np.arange(len(keys)), turns):
        share = counts[stretch].sum()
        before = np.cumsum(counts[stretch]) - counts[stretch]
        number = before * max(1, round(BINS * share / total)) // share
        begins += stretch[np.diff(number, prepend=-1) > 0].tolist()
    edges = bounds(np.append(keys[begins], keys[-1] + 1) << sketch.level)
    return edges[np.isfinite(edges)]


def _moments(sketch: Sketch) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the finite values, as if each were the middle of its bin."""
    if not len(sketch.keys):
        return None, None
    most = np.finfo(np.float64).max
    lower, upper = (np.clip(bounds(sketch.keys + i << sketch.level), -most, most) for i in (0, 1))
    middle, shares = lower / 2 + upper / 2, sketch.counts / sketch.counts.sum()
    mean = float(shares @ middle)
    with np.errstate(over="ignore"):
        deviation = float(np.sqrt(shares @ (middle - mean) ** 2))
    return mean, deviation if np.isfinite(deviation) else None


def _fractions(sketch: Sketch, frozen: BaselineColumn) -> Floats:
    """The shares of a column's rows in a baseline's bins, as `BaselineColumn` has them; all 0 without rows."""
    if sketch.text:
        listed = [sketch.values[value] for value in frozen.values]
        found = np.array([*listed, sketch.values.total() + sketch.other - sum(listed)], np.float64)
    else:
        bins = np.searchsorted(_cuts(sketch, frozen), sketch.keys, side="right")
        finite = np.bincount(bins, weights=sketch.counts, minlength=len(frozen.edges) + 1)
        found = np.array([sketch.minus, *finite, sketch.plus, sketch.nan], np.float64)
    nulls = sketch.nulls / max(1, sketch.rows)
    return np.append(found / max(1.0, found.sum()) * (1 - nulls), nulls)


def _cuts(sketch: Sketch, frozen: BaselineColumn) -> Ints:
    """The baseline's edges as bins of the sketch's level."""
    return keys_of(np.array(frozen.edges)).astype(np.int64) >> sketch.level


def _align(sketch: Sketch, frozen: BaselineColumn) -> Floats:
    """The baseline's fractions, those of bins that the sketch is too coarse to tell apart joined in the last of them.

    Its edges are bounds of the sketch's bins unless that is coarser. Then they count as moved down, by less than one
    bin of it, and a value that had a bin of its own shares one, on both sides: it must not seem to have moved.
    """
    fractions = np.array(frozen.fractions)
    if not frozen.text and len(frozen.edges):
        cuts = _cuts(sketch, frozen)
        joined = np.append(0, np.searchsorted(cuts, cuts, side="right"))
        fractions[1:-3] = np.bincount(joined, weights=fractions[1:-3], minlength=len(joined))
    return fractions


def _psi(p: Floats, q: Floats) -> Floats:
    """Each bin's part of the PSI, the sum of (p - q) ln(p / q), p and q raised to FLOOR; the same with roles changed.

    Source: Siddiqi, "Credit Risk Scorecards", 2006.
    """
    p, q = np.maximum(p, FLOOR), np.maximum(q, FLOOR)
    return (p - q) * np.log(p / q)


def _js(p: Floats, q: Floats) -> float:
    """Source: Lin, "Divergence measures based on the Shannon entropy", 1991; its root is a metric."""
    middle = (p + q) / 2
    parts = [np.sum(side[side > 0] * np.log2(side[side > 0] / middle[side > 0])) for side in (p, q)]
    return float(np.sqrt(max(0.0, sum(parts) / 2)))


def _ks(p: Floats, q: Floats) -> float | None:
    if p.sum() <= 0 or q.sum() <= 0:
        return None
    return float(np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum()).max())


def drift(profile: Profile, baseline: Baseline) -> tuple[ColumnDrift, ...]:
    """Hold each column of either side against the other: the profile's in its order, then those it lacks."""
    names = [*profile.columns, *(name for name in baseline.columns if name not in profile.columns)]
    return tuple(_drift(name, profile.columns.get(name), baseline.columns.get(name)) for name in names)


def _drift(name: str, sketch: Sketch | None, frozen: BaselineColumn | None) -> ColumnDrift:
    known: dict[str, Any] = {}
    if sketch is not None:
        mean, deviation = _moments(sketch)
        nulls = sketch.nulls / sketch.rows if sketch.rows else None
        known = {"rows": sketch.rows, "null_fraction": nulls, "mean": mean, "deviation": deviation}
    if frozen is not None:
        known |= {
            "baseline_rows": frozen.rows,
            "baseline_null_fraction": frozen.null_fraction,
            "baseline_mean": frozen.mean,
            "baseline_deviation": frozen.deviation,
        }
    if sketch is None or frozen is None:
        return ColumnDrift(name, "missing" if sketch is None else "added", **known)
    if sketch.text != frozen.text or not sketch.rows or not frozen.rows:
        return ColumnDrift(name, "retyped" if sketch.text != frozen.text else "empty", **known)
    p, q = _fractions(sketch, frozen), _align(sketch, frozen)
    used = int(np.count_nonzero(p + q))
    noise = max(0, used - 1) * (1 / sketch.sampled + 1 / frozen.sampled)
    known |= {"ks": None if sketch.text else _ks(p[:-2], q[:-2]), "noise": noise, "unseen": float(p[q == 0].sum())}
    return ColumnDrift(name, "compared", psi=float(_psi(p, q).sum()), js=_js(p, q), **known)


def bins(profile: Profile, baseline: Baseline | None) -> pa.Table:
    """A run's bins beside the baseline's, one row each, as PROFILES has them; on the run's own bins without one.

    `psi` summed over a column, and the distances made of the fractions, are those of `drift`: where the run's numbers
    are too coarse for an edge of the baseline, the bins that it parts are joined in the upper one. A column that only
    one side has, or that is a text on one side only, has the bins and fractions of the side it has, the run's first.
    """
    known, mine = baseline.columns if baseline is not None else {}, profile.columns
    found: dict[str, list[Any]] = {name: [] for name in PROFILES.names}
    for name in (*mine, *(name for name in known if name not in mine)):
        sketch, frozen = mine.get(name), known.get(name)
        both = sketch is not None and frozen is not None and sketch.text == frozen.text
        shape = known[name] if both or sketch is None else _freeze(sketch)
        p = None if sketch is None else _fractions(sketch, shape)
        q = None if shape is not frozen else _align(sketch, shape) if sketch else np.array(shape.fractions)
        kinds, labels, lower, upper = _labels(shape)
        size = len(kinds)
        columns: list[Any] = [
            [name] * size,
            [shape.type] * size,
            range(size),
            kinds,
            labels,
            lower,
            upper,
            None if p is None or sketch is None else np.rint(p * sketch.rows).astype(np.int64),
            p,
            q,
            _psi(p, q) if p is not None and q is not None and p.any() and q.any() else None,
        ]
        for whole, part in zip(found.values(), columns, strict=True):
            whole += [None] * size if part is None else part.tolist() if isinstance(part, np.ndarray) else part
    return pa.table(found, schema=PROFILES)


def _labels(frozen: BaselineColumn) -> tuple[list[str], list[str], list[float | None], list[float | None]]:
    """Kind, label and bounds of each of a baseline column's bins."""
    if frozen.text:
        specials, size = ["other", "null"], len(frozen.values)
        return ["value"] * size + specials, [*frozen.values, *specials], [None] * (size + 2), [None] * (size + 2)
    lower, upper = [None, *frozen.edges], [*frozen.edges, None]
    ranges = [_label(a, b) for a, b in pairwise((-np.inf, *frozen.edges, np.inf))]
    specials = ["inf", "nan", "null"]
    kinds = ["-inf", *["range"] * len(ranges), *specials]
    return kinds, ["-inf", *ranges, *specials], [None, *lower, *[None] * 3], [None, *upper, *[None] * 3]


def _label(lower: float, upper: float) -> str:
    """The bounds, or, of a bin so narrow that it holds about one value, the shortest number in it."""
    if upper - lower > max(abs(lower) * 1e-6, _TINY) or np.isinf(lower):
        return f"[{lower:.10g}, {upper:.10g})"
    middle = (f"{lower / 2 + upper / 2:.{digits}g}" for digits in range(1, 18))
    return "0" if lower == 0 else next(text for text in middle if lower <= float(text) < upper)
