"""Example runs for the page's tests, as plain as the ledger's JSON."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any


def _bins(edges: list[float], now: list[float], base: list[float] | None) -> list[dict[str, Any]]:
    bounds = [None, *edges[1:-1], None]
    return [
        {
            "label": f"{low:g} – {high:g}", "lower": bounds[i], "upper": bounds[i + 1], "fraction": now[i],
            "baseline_fraction": base[i] if base else None,
        }
        for i, (low, high) in enumerate(itertools.pairwise(edges))
    ]  # fmt: skip


def _bell(mean: float, width: float, bins: int = 10) -> list[float]:
    heights = [math.exp(-(((i + 0.5) / bins - mean) ** 2) / (2 * width**2)) for i in range(bins)]
    return [height / sum(heights) for height in heights]


def _column(name: str, psi: float, shift: float, kind: str = "feature", scale: float = 1.0) -> dict[str, Any]:
    edges = [scale * i / 10 for i in range(11)]
    return {
        "column": name, "kind": kind, "psi": psi, "js": psi / 8, "ks": abs(shift), "null_fraction": 0.0013,
        "baseline_null_fraction": 0.001, "drifted": psi > 0.2,
        "bins": _bins(edges, _bell(0.45 + shift, 0.17), _bell(0.45, 0.17)),
    }  # fmt: skip


def _rule(name: str, kind: str, column: str | None, **more: Any) -> dict[str, Any]:
    return {
        "suite": "features", "name": name, "type": kind, "column": column, "kwargs": {}, "severity": "critical",
        "success": True, "total": 97000, "evaluated": 97000, "unexpected": 0, "fraction": 0.0, "mostly": 1.0,
        "observed": None, "examples": [], "way": "row", "blocks": False, **more,
    }  # fmt: skip


PUBLISHED: dict[str, Any] = {
    "run_id": "01JD9ZK7Q4W8R2V5T6", "job": "games_purchase", "date": "2026-11-23", "status": "published",
    "started_at": "2026-11-24T01:00:03+00:00", "finished_at": "2026-11-24T01:00:21.400000+00:00", "message": None,
    "rows_read": 97000, "rows_scored": 96688, "rows_quarantined": 312, "carrier": "files", "engine": "spark",
    "model": {
        "name": "logit_games", "version": "3", "uri": "models:/logit_games@champion",
        "digest": "sha256:9f2c4e1b7a60d3c58e4f11b2a7c9d0e35b6f8a1c2d3e4f5061728394a5b6c7d8",
        "flavor": "sklearn", "library": "sklearn 1.9.1", "called": "Pipeline.predict_proba",
    },
    "input": {"table": "lake/features/games", "version": 17, "where": "event_date = '2026-11-23'"},
    "sinks": [
        {"type": "delta", "table": "lake/scores/games", "version": 12, "kind": "sink"},
        {"type": "delta", "table": "lake/quarantine/games", "version": 9, "kind": "quarantine"},
    ],
    "seconds": {"plan": 0.62, "model": 1.4, "score": 13.1, "check": 0.81, "publish": 1.22, "record": 0.05},
    "work": {"reading": 3.0, "checking": 2.0, "model": 4.0, "writing": 1.0, "core": 0.194},
    "reasons": [
        {"rule": "not null", "column": "sessions_7d", "rows": 204}, {"rule": "between 0 and 120", "column": "age", "rows": 97},
        {"rule": "score between 0 and 1", "column": "purchase_probability", "rows": 11},
    ],
    "samples": [
        {
            "player_id": 100_000 + 37 * i, "event_date": "2026-11-23", "country": ["DE", "FR", "US"][i % 3],
            "age": [34, 417, 27, -3, 51, 150, 29][i], "sessions_7d": None if i % 2 == 0 else 4.25, "spend_30d": 12.5 * i,
            "level": 3 * i + 2, "platform": "android",
            "_reasons": (
                [{"rule": "not null", "column": "sessions_7d", "observed": None}] if i % 2 == 0 else
                [{"rule": "between 0 and 120", "column": "age", "observed": [34, 417, 27, -3, 51, 150, 29][i]}]
            ),
        }
        for i in range(7)
    ],
    "rules": [
        _rule("not null", "expect_column_values_to_not_be_null", "sessions_7d", unexpected=204, fraction=0.0021, mostly=0.99),
        _rule("between 0 and 120", "expect_column_values_to_be_between", "age", unexpected=97, fraction=0.001, mostly=0.99,
              kwargs={"column": "age", "min_value": 0, "max_value": 120}, examples=[417, -3, 999, 201, 150]),
        _rule("known countries", "expect_column_values_to_be_in_set", "country", kwargs={"value_set": ["DE", "FR", "US"]}),
        _rule("enough rows", "expect_table_row_count_to_be_between", None, way="table", blocks=True, observed=97000,
              kwargs={"min_value": 50000}, unexpected=None, fraction=None, mostly=None),
        _rule("mean of scores", "expect_column_mean_to_be_between", "purchase_probability", suite="scores", way="GX",
              observed=0.4471, kwargs={"min_value": 0.3, "max_value": 0.6}, unexpected=None, fraction=None, mostly=None,
              severity="warning"),
    ],
    "budget": {"max_fraction": 0.01, "max_rows": None, "quarantined": 312, "allowed": 970},
    "drift": {
        "threshold": 0.2, "action": "warn", "baseline": "training",
        "columns": [
            _column("age", 0.012, 0.01, scale=80), _column("sessions_7d", 0.034, 0.03, scale=20),
            _column("purchase_probability", 0.021, 0.02, "prediction"), _column("spend_30d", 0.087, -0.05, scale=25000),
            {
                "column": "country", "kind": "feature", "psi": 0.004, "js": 0.001, "ks": None, "null_fraction": 0.0,
                "baseline_null_fraction": 0.0, "drifted": False,
                "bins": [
                    {"label": name, "lower": None, "upper": None, "fraction": now, "baseline_fraction": base}
                    for name, now, base in [("DE", 0.41, 0.43), ("FR", 0.32, 0.3), ("US", 0.26, 0.26), ("other", 0.01, 0.01)]
                ],
            },
        ],
    },
}  # fmt: skip


def _compared(
    name: str, rows: int, means: tuple[float, float] | None, flips: int | None, **more: Any
) -> dict[str, Any]:
    own, theirs = means or (None, None)
    return {
        "name": name, "rows": rows, "missing": 0, "flips": flips, "own_mean": own, "their_mean": theirs,
        "shift": means and theirs - own, "mean_distance": means and 0.04, "furthest": means and 0.31, **more,
    }  # fmt: skip


CHALLENGERS: list[dict[str, Any]] = [
    {
        "label": label, "name": "boosted_games", "version": version, "digest": "9f2c4e1b", "rows": 96688, "failed": failed,
        "examples": ["model_raised: ValueError: level is beyond what was trained on"] if failed else [],
        "seconds": 4.07, "model_seconds": 1.4, "by": "country", "predictions": [
            _compared("purchase_probability", 96688 - failed, (0.4471, 0.4612), None, matrix=None, segments=[
                _compared("", 41000, (0.441, 0.4402), None, segment="DE"), _compared("", 31000, (0.452, 0.4811), None, segment="FR"),
                _compared("", 24688 - failed, (0.45, 0.4713), None, segment="US")]),
            _compared("buys", 96688 - failed, None, 2043, matrix={
                "labels": ["false", "true"], "rows": [[51200, 1711], [332, 43445 - failed]]}, segments=[
                _compared("", 41000, None, 12, segment="DE"), _compared("", 31000, None, 1290, segment="FR"),
                _compared("", 24688 - failed, None, 741, segment="US")])],
    }
    for label, version, failed in (("challenger", "4", 0), ("wider", "7", 1187))
]  # fmt: skip


def compared() -> dict[str, Any]:
    """A good day on which two challengers were given the same rows."""
    run = published()
    run["challengers"] = copy.deepcopy(CHALLENGERS)
    run["sinks"].append(
        {"type": "delta", "table": "lake/scores/games_challengers", "version": 12, "kind": "comparison"}
    )
    return run


def published() -> dict[str, Any]:
    """A good day with a few bad rows."""
    return copy.deepcopy(PUBLISHED)


def held() -> dict[str, Any]:
    """A day that waits for a person, beside what is live."""
    run = published() | {"status": "held", "message": "publish.hold: always; held until 2026-01-09 06:00 UTC"}
    figures = {
        "rows": 90123,
        "own_mean": 0.1234,
        "their_mean": 0.1411,
        "shift": 0.0177,
        "mean_distance": 0.02,
        "furthest": 0.61,
    }
    parts = [{**figures, "segment": country, "rows": 4000, "flips": 12} for country in ("AT", "DE")]
    run["live"] = {
        "held": 95000, "live": 94000, "added": 2000, "gone": 1000, "changed": 90123, "same": 2877, "repeated": 2,
        "by": "country", "not_compared": ["tags"],
        "predictions": [{"name": "purchase_probability", "flips": 25, **figures, "segments": parts}],
        "examples": [{"key": {"player_id": 7}, "live": {"purchase_probability": 0.1}, "held": {"purchase_probability": 0.71}}],
        "beside": [{"what": "rule between 0 and 120", "live": "passed", "held": "warning, 12 rows"}],
    }  # fmt: skip
    return run


def warned() -> dict[str, Any]:
    """Published, although rules failed and columns drifted."""
    run = published()
    run["rules"][1] |= {"success": False, "severity": "warning", "unexpected": 4212, "fraction": 0.0434}
    run["rules"][4] |= {"success": False, "observed": 0.6412}
    run["rules"].append(
        _rule("unique players", "expect_column_values_to_be_unique", "player_id", success=None, severity="info")
    )
    run["drift"]["columns"][1] = _column("sessions_7d", 0.412, 0.19, scale=20)
    run["drift"]["columns"][2] = _column("purchase_probability", 0.268, 0.14, "prediction")
    run["drift"]["columns"] += [_column(f"feature_{i}", 0.01 / (i + 1), 0.01 / (i + 1), scale=3) for i in range(9)]
    return run


def blocked() -> dict[str, Any]:
    """A bad day: too many bad rows, and a rule that blocks."""
    run = published()
    run |= {
        "status": "blocked", "rows_scored": 88190, "rows_quarantined": 8810,
        "message": "8,810 of 97,000 rows are bad (9.08%), more than max_fraction 0.01 allows: nothing was published",
        "sinks": [run["sinks"][1]],
        "reasons": [{"rule": "not null", "column": "sessions_7d", "rows": 8702}, {"rule": "between 0 and 120", "column": "age", "rows": 121}],
    }  # fmt: skip
    run["budget"] |= {"quarantined": 8810}
    run["rules"][0] |= {"success": False, "unexpected": 8702, "fraction": 0.0897}
    run["rules"][3] |= {"success": False, "observed": 97000, "kwargs": {"min_value": 100000}}
    return run


SCRIPT = "<script>alert('x')</script><img src=x onerror=\"alert(1)\">"
LONG = "s3://a-bucket-of-somebody/" + "a_long_name_without_any_blank_" * 5


def hostile() -> dict[str, Any]:
    """Every text and every column's name is markup, tables' names are very long."""
    run = warned()
    run["challengers"] = copy.deepcopy(CHALLENGERS)
    kept = set(_names(run)) - set(run["samples"][0]) | {"_reasons"}  # the record's own names
    fixed = ("status", "kind", "severity", "way", "action", "started_at", "finished_at")

    def spoilt(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {(key if key in kept else SCRIPT + key): spoilt(member, key) for key, member in value.items()}
        if isinstance(value, list):
            return [spoilt(member) for member in value]
        if not isinstance(value, str) or name in fixed:
            return value
        return LONG if name == "table" else value + SCRIPT

    return dict(spoilt(run))


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(name for member in value.values() for name in _names(member))]
    return [name for member in value for name in _names(member)] if isinstance(value, list) else []
