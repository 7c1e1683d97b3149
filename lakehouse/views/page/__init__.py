"""One run as one HTML page that needs nothing else: no network, no script, no other file. Pure, but for its template.

`Run` says what goes in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChainableUndefined, Environment, Template

from lakehouse.views.page import wording
from lakehouse.views.page.record import Run as Run

_COLUMNS = 8  # of a sample row, besides those that a rule complains about
_TICKS = 6


def render(run: Mapping[str, Any]) -> str:
    """The page about a run, see `Run`. Every value is escaped."""
    known = {**_known(run), "samples": run.get("samples") or []}  # a null in a sample row is something to show
    columns = sorted(known.get("drift", {}).get("columns", ()), key=lambda c: -wording.number(c.get("psi"), -1.0))
    text = _template().render(
        run=known,
        verdict=wording.verdict(known),
        suites=_suites(known.get("rules", ())),
        tally=Counter(map(wording.state, known.get("rules", ()))),
        reasons=sorted(known.get("reasons", ()), key=lambda reason: -wording.number(reason.get("rows"))),
        samples=_samples(known["samples"]),
        models=sorted(known.get("models", {}).get("listed", ()), key=lambda one: -wording.number(one[4])),
        drift=[{**column, "histogram": _histogram(column.get("bins", ()))} for column in columns],
    )
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair can't be written to a file


@cache
def _template() -> Template:
    """The template, with what it calls. Missing names are empty, so that old records make a page, too."""
    environment = Environment(autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    named = (
        wording.value,
        wording.count,
        wording.share,
        wording.number,
        wording.decimal,
        wording.arguments,
        wording.duration,
        wording.instant,
        wording.statistic,
    )
    environment.filters |= {function.__name__: function for function in named}
    environment.globals |= {"took": wording.took}
    return environment.from_string(files(__name__).joinpath("page.html.j2").read_text(encoding="utf-8"))


def _suites(rules: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rules with their states, what needs attention first, by suite."""
    suites: dict[str, list[dict[str, Any]]] = {}
    for rule in sorted(rules, key=lambda rule: wording.STATES.index(wording.state(rule))):
        suites.setdefault(str(rule.get("suite", "")), []).append({**rule, "state": wording.state(rule)})
    return dict(sorted(suites.items()))


def _samples(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sample rows as a table: the columns that rules complain about, then a few others."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "_reasons"))
    blamed = {reason.get("column") for row in rows for reason in row.get("_reasons") or ()}
    shown = [*columns[:1], *(c for c in columns[1:] if c in blamed)]
    shown += [c for c in columns if c not in shown][:_COLUMNS]
    numeric = {c for c in columns if any(isinstance(row.get(c), int | float) for row in rows)}
    return {"numeric": numeric, "columns": shown, "hidden": len(columns) - len(shown), "rows": list(rows)}


def _histogram(bins: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A histogram's geometry: bars in a field of 10 a bin by 100, the baseline's outline, the axis, and it in words."""
    now = [wording.number(b.get("fraction")) for b in bins]
    base = [wording.number(b["baseline_fraction"]) if "baseline_fraction" in b else None for b in bins]
    top = max([*now, *(b or 0.0 for b in base)], default=0.0)
    if not top:
        return None
    edges = [[wording.decimal(b.get(side)) for side in ("lower", "upper")] for b in bins]
    labels = [str(b.get("label") or f"{low} – {high}") for b, (low, high) in zip(bins, edges, strict=True)]
    told = [
        f"{label}: {wording.share(n)}" + (f" (baseline {wording.share(b)})" if b is not None else "")
        for label, n, b in zip(labels, now, base, strict=True)
    ]
    heights = [100 - 97 * (b or 0.0) / top for b in base]
    line = " ".join(f"{'M' if not i else 'L'}{10 * i} {y:.1f} H{10 * i + 10}" for i, y in enumerate(heights))
    return {
        "bars": [(10 * i, 97 * n / top, text) for i, (n, text) in enumerate(zip(now, told, strict=True))],
        "line": line if any(b is not None for b in base) else "",
        "width": 10 * len(bins),
        "top": top,
        "ticks": _ticks(bins, labels),
        "words": "; ".join(told),
        "table": list(zip(labels, now, base, strict=True)),
    }


def _ticks(bins: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[tuple[float, str]]:
    """Where the axis has which label, in percent of its width: numbers at bins' edges, texts below their bins."""
    step = math.ceil(len(bins) / _TICKS)
    ticks = []
    for i, one in enumerate(bins):
        if i % step == 0 and "lower" in one:
            ticks.append((100 * i / len(bins), wording.decimal(one["lower"])))
        elif i % step == 0 and "upper" not in one:
            ticks.append((100 * (i + 0.5) / len(bins), labels[i]))
    if bins and "upper" in bins[-1] and (len(bins) - 1) % step == step - 1:
        ticks.append((100.0, wording.decimal(bins[-1]["upper"])))
    return ticks


def _known(value: Any) -> Any:
    """The value without what is null, at any depth of its mappings."""
    if isinstance(value, Mapping):
        return {str(name): _known(member) for name, member in value.items() if member is not None}
    return [_known(member) for member in value] if isinstance(value, list | tuple) else value
