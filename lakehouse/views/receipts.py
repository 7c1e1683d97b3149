"""A score explained, and a run's scores made again, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.operations.receipts.explaining import Explanation
from lakehouse.operations.receipts.holding import Verified
from lakehouse.operations.receipts.places import ASIDE
from lakehouse.scoring.reasons import in_words
from lakehouse.views.terminal import table_text

_FEATURES = 30
_PASSED = {True: "passed", False: "failed", None: "didn't count"}


def explanation(told: Explanation) -> str:
    """Everything that is known of one score, the answer first."""
    key = ", ".join(f"{name}={value}" for name, value in told.key.items())
    lines = [f"{_verdict(told):<10} {key}", "", *_lines(told)]
    if told.features:
        shown = told.features[:_FEATURES]
        cells = [[f["name"], f["column"], _value(f["value"]), f["type"], f["given_as"]] for f in shown]
        more = len(told.features) - len(shown)
        lines += ["", *table_text(["feature", "column", "value", "type", "given as"], cells)]
        lines += [f"  and {more} more features: see --json"] if more else []
    lines += _rules(told.rules)
    lines += _why(told.why) if told.why else []
    lines += ["", *(f"note     {note}" for note in told.notes)] if told.notes else []
    return "\n".join(lines)


def verified(found: Verified) -> str:
    """What came of making a run's scores again, with a few rows that are wrong."""
    version = "" if found.version is None else f" v{found.version}"
    chosen = "all rows" if found.sample is None else f"{found.sample:,} rows by --seed {found.seed}"
    differs = any(found.greatest.values())
    equal = "equal but for rounding" if differs and not found.exact else "identical"
    lines = [
        f"{'EQUAL' if found.proved else 'DIFFERS':<8} run {found.run_id} in {found.table}{version}, {chosen}",
        f"         {found.checked:,} made again: {found.equal:,} {equal}, {found.differing:,} other",
    ]
    if differs:
        apart = ", ".join(f"{name} {value:.3g}" for name, value in found.greatest.items())
        lines.append(f"         greatest difference: {apart}")
    lines += [f"changed  {what}" for what in found.changed]
    lines += [f"         {getattr(found, kind):,} {what}" for kind, what in _KINDS.items() if getattr(found, kind)]
    counts = ", ".join(f"{name} {count:,}" for name, count in found.rows.items())
    lines.append(f"rows     {counts}{_ALIKE[found.alike]}")
    if found.examples:
        cells = [[_of_example(one), one["kind"], one.get("column", ""), *_sides(one)] for one in found.examples]
        lines += ["", *table_text(["key", "what", "column", "stored", "made again"], cells)]
    return "\n".join([*lines, *(f"note     {note}" for note in found.notes)])


_KINDS = {
    "missing": "of the input are neither in the table nor set aside",
    "extra": "of the table are not in the input",
    "unfit": "of the table would be set aside now",
    "strangers": "of the slice are of no run on record",
    "repeated": "whose key is there more than once are not compared",
}
_ALIKE = {
    True: ": the input's keys are those of table and quarantine",
    False: ": the input's keys are NOT those of table and quarantine (--all finds which)",
    None: "",
}


def _of_example(one: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in one["key"].items())


def _sides(one: Mapping[str, Any]) -> list[str]:
    return [_value(one[side]) if side in one else "" for side in ("stored", "again")]


def _verdict(told: Explanation) -> str:
    if told.equal is None:
        return "NOT MADE AGAIN"
    return "EQUAL" if told.equal else "DIFFERS"


def _lines(told: Explanation) -> list[str]:
    run, model, read, table = told.run, told.model, told.input, told.table
    version = "" if table["version"] is None else f" v{table['version']}"
    file = f", {table['file']}" if table["file"] else ""
    lines = [
        f"is       {told.status}{' and live' if told.live else ''}, in {table['table']}{version}{file}",
        *(f"stored   {name} {_value(value)}" for name, value in told.stored.items()),
        *(f"again    {name} {_value(value)}{_apart(told, name)}" for name, value in told.again.items()),
    ]
    if told.status == ASIDE or told.again_reasons:
        lines += [f"why      {in_words(told.reasons)}"] if told.reasons else []
        lines += [f"again    set aside: {in_words(told.again_reasons)}"] if told.again_reasons else []
    lines += [f"unknown  {what}" for what in told.unknown]
    program = run["program"] or {}
    code = ", ".join(f"{name} {version}" for name, version in program.items()) or "not recorded"
    lines += [
        f"run      {run['run_id']} {run['status'] or ''} at {run['started_at']}, code: {code}",
        f"model    {model['uri']} sha256:{model['digest']}, {model['library'] or ''} {model['called'] or ''}".rstrip(),
        f"input    {read['table']} v{read['version']}{_where(read)}",
    ]
    lines += [f"warned   {', '.join(told.warnings)}"] if told.warnings else []
    return [*lines, *(f"run said {warning}" for warning in told.run_warnings)]


def _where(read: Mapping[str, Any]) -> str:
    file = f", {read['file']}" if read.get("file") else ""
    return file + (f", where {read['where']}" if read.get("where") else "")


def _apart(told: Explanation, name: str) -> str:
    if name not in told.differences:
        return ""
    by = told.differences[name].get("by")
    return "  differs" if by is None else f"  differs by {by:.3g}"


def _rules(rules: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rules:
        return []
    cells = [[r["suite"], r["name"], ", ".join(r["columns"]), r["severity"], _PASSED[r["passed"]]] for r in rules]
    return ["", *table_text(["rules on", "rule", "columns", "severity", "this row"], cells)]


def _why(why: Mapping[str, Any]) -> list[str]:
    cells = [[part["name"], f"{part['contribution']:+.6g}"] for part in why["features"][:_FEATURES]]
    base = f"; base {why['base']:.6g}" if "base" in why else ""
    return ["", f"{why['prediction']} by {why['method']}{base}", *table_text(["feature", "contribution"], cells)]


def _value(value: Any) -> str:
    return "null" if value is None else repr(value) if isinstance(value, float) else str(value)
