"""How the challengers of a run compare with its model: figures for the page, the facts and `lakehouse promote`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.checks import Tally
from lakehouse.scoring.comparison import Compared, merge
from lakehouse.scoring.pairs import Pairs
from lakehouse.scoring.staging import Staging

_SHOWN_LABELS = 8
"""A matrix of labels is given for predictions of at most so many."""


def facts(staging: Staging, tally: Tally) -> list[dict[str, Any]]:
    """How each challenger compares: who it is, `rows`, `failed`, `seconds` beside `model_seconds` of the model itself.

    For each prediction there are the figures of `_figures`, overall and by segment. Empty where there are none.
    """
    if staging.beside is None:
        return []
    seen = merge(tally.compared)
    return [
        {
            "label": c.label,
            "name": c.name,
            "version": c.version,
            "digest": c.digest,
            **({"otherwise": list(c.otherwise)} if c.otherwise else {}),
            **_counted(seen.get(c.label, Compared()), staging.beside.by),
            "model_seconds": round(tally.work.get("model", 0.0), 3),
            "by": staging.beside.by,
        }
        for c in staging.beside.challengers
    ]


def _counted(seen: Compared, by: str | None) -> dict[str, Any]:
    predictions = []
    for name, segments in seen.pairs.items():
        whole = Pairs()
        for pairs in segments.values():
            whole.merge(pairs)
        parts = [{"segment": segment, **figures(segments[segment])} for segment in sorted(segments if by else ())]
        predictions.append({"name": name, **figures(whole), "matrix": _matrix(whole), "segments": parts})
    return {
        "rows": seen.rows,
        "failed": seen.failed,
        "seconds": round(seen.seconds, 3),
        "examples": seen.examples,
        "predictions": predictions,
    }


def figures(pairs: Pairs) -> dict[str, Any]:
    """Rows that both have a value for, that only the model has one for, and with another label; means and distances."""
    many = pairs.rows if pairs.numeric else 0
    return {
        "rows": pairs.rows,
        "missing": pairs.missing,
        "flips": pairs.flips,
        "own_mean": pairs.own / many if many else None,
        "their_mean": pairs.theirs / many if many else None,
        "shift": pairs.shift,
        "mean_distance": pairs.apart / many if many else None,
        "furthest": pairs.furthest if many else None,
    }


def _matrix(pairs: Pairs) -> dict[str, Any] | None:
    """How often each label of the model became which of the challenger."""
    if not pairs.labels:
        return None
    names = sorted({label for pair in pairs.labels for label in pair})
    if len(names) > _SHOWN_LABELS:
        return None
    return {"labels": names, "rows": [[pairs.labels.get((own, theirs), 0) for theirs in names] for own in names]}


def in_words(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a challenger."""
    return [f"challenger {c['label']} ({c['name']} v{c['version']}): {_in_words(c)}" for c in found]


def _in_words(challenger: Mapping[str, Any]) -> str:
    parts = []
    for prediction in challenger["predictions"]:
        name, rows = prediction["name"], prediction["rows"]
        if prediction["flips"] is not None and rows:
            parts.append(
                f"{name} differs in {prediction['flips']:,} of {rows:,} rows ({prediction['flips'] / rows:.2%})"
            )
        elif prediction["shift"] is not None:
            parts.append(f"mean {name} {prediction['own_mean']:.4g} → {prediction['their_mean']:.4g}")
    if challenger["failed"]:
        parts.append(f"it failed on {challenger['failed']:,} of {challenger['rows']:,} rows")
    return "; ".join(parts) or "nothing to compare"
