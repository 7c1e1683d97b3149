"""Live scores beside another table's, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lakehouse.operations import reasons
from lakehouse.operations.comparison import Compared
from lakehouse.views.terminal import table_text


def text(found: Compared) -> str:
    """Keys, sizes of differences, decisions, reasons and examples."""
    rows = found.rows
    lines = [
        f"{found.slice}: {rows.here:,} rows here; {found.table} ({found.rows_there}): {rows.there:,} rows",
        f"{rows.matched:,} matched by key, {rows.only_here:,} only here, {rows.only_there:,} only there",
    ]
    lines += [
        f"{count:,} rows {where} are compared with nothing: {why}"
        for count, where, why in (
            (rows.repeated_here, "here", "their key is there more than once"),
            (rows.repeated_there, "there", "their key is there more than once"),
            (rows.without_key, "there", "they have no key"),
        )
        if count
    ]
    if found.not_compared:
        lines.append(f"lists and structs are not compared: {', '.join(found.not_compared)}")
    if rows.matched and found.predictions:
        sizes = list(found.predictions[0]["sizes"])
        names = ["prediction", "there", *sizes, "flips"]
        lines += ["", *table_text(names, [_row(p, sizes) for p in found.predictions])]
    lines += ["", *reasons.in_words(found.reasons)] if found.reasons else []
    for prediction in found.predictions:
        lines += _examples(prediction)
    for side, some in found.only.items():
        lines += ["", f"only {side}: {', '.join(_key(row) for row in some)}"] if some else []
    return "\n".join(lines)


def _row(prediction: Mapping[str, Any], sizes: list[str]) -> list[str]:
    flips, at = prediction["flips"], prediction["threshold"]
    decided = "" if flips is None else f"{flips:,}" + ("" if at is None else f" at {at:g}")
    return [prediction["name"], prediction["column"], *(f"{prediction['sizes'][s]:,}" for s in sizes), decided]


def _examples(prediction: Mapping[str, Any]) -> list[str]:
    rows = [
        [size, _key(row["key"]), _value(row["here"]), _value(row["there"])]
        for size, some in prediction["examples"].items()
        for row in some
    ]
    return ["", *table_text([prediction["name"], "key", "here", "there"], rows)] if rows else []


def _key(row: Mapping[str, Any]) -> str:
    return " ".join(str(value) for value in row.values())


def _value(value: Any) -> str:
    return "null" if value is None else repr(value) if isinstance(value, float) else str(value)
