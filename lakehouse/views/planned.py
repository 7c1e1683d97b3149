"""A dry run's plan as people read it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse.runs import ledger

_COLUMNS = 12
_PIECES = {"chunks": "part", "messages": "partition"}
_UNSLICED = {"messages": "none, scores are added"}
_NAMED = {
    "run_id", "input", "model", "carrier", "reason", "files", "rows_at_most", "columns", "slice", "generation",
    "fingerprint", "table", "table_version", "publish", "also", "units", "challengers",
}  # fmt: skip
"""The entries of a plan that have a place of their own in its text."""


def plan_text(plan: Mapping[str, Any], width: int | None = None) -> str:
    """A dry run's plan, an entry a line; `width`: the terminal's, into which longer ones are broken."""
    model, read = plan["model"], plan["input"]
    version = "" if read["version"] is None else f" v{read['version']}"
    piece = _PIECES.get(plan["carrier"], "file")
    pieces = "" if plan["files"] is None else f", {plan['files']} {piece}"
    pieces += "s" if pieces and plan["files"] != 1 else ""
    at = f" v{plan['table_version']}" if plan["table_version"] is not None else ""
    rows = f"{plan['rows_at_most']:,}" if plan["rows_at_most"] is not None else "unknown"
    columns, many = plan["columns"], len(plan["columns"])
    pairs = [
        ("input", f"{read['table']}{version}{pieces}, at most {rows} rows"),
        ("columns", ", ".join(columns[:_COLUMNS]) + (f", … ({many:,} in all)" if many > _COLUMNS else "")),
        ("carrier", f"{plan['carrier']}: {plan['reason']}"),
        ("units", str(plan["units"]) if plan.get("units") is not None else "Spark's partitions"),
        ("model", _model(model)),
        *([("calls", f"{model['called']} ({model['library']})")] if model.get("called") else []),
        *(("challenger", f"{_model(c)}, called {c['label']}") for c in plan.get("challengers", ())),
        *_others(plan),
        (
            "slice",
            ", ".join(f"{k}={v}" for k, v in plan["slice"].items())
            or _UNSLICED.get(plan["carrier"], "the whole table"),
        ),
        ("generation", str(plan["generation"])),
        ("fingerprint", plan["fingerprint"]),
        ("publish", f"{plan['table']}{at}: {plan['publish']}"),
        *(("and", does) for does in plan.get("also", ())),
    ]
    return "\n".join(line for name, value in pairs for line in _broken(name, value, width))


def _model(model: Mapping[str, Any]) -> str:
    return f"{ledger.title_of(model)} sha256:{model['digest'][:16]}…"


def _others(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The other entries of a plan: a list is a line each, the first under its name."""
    for key, value in plan.items():
        if key in _NAMED or value in (None, "", [], {}, ()):
            continue
        if isinstance(value, Mapping):
            value = [", ".join(f"{k}: {v}" for k, v in value.items())]
        for number, one in enumerate(value if isinstance(value, (list, tuple)) else [value]):
            yield "" if number else key.replace("_", " "), str(one)


def _broken(name: str, value: str, width: int | None) -> list[str]:
    """An entry as lines of at most `width` characters, all but the first indented."""
    head = f"{name:<12} "
    if width is None:
        return [head + value]
    return textwrap.wrap(
        value,
        max(width, 40),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
        break_long_words=False,
    ) or [head]


def terminal_width() -> int | None:
    """The columns of the terminal that stdout is, None where it is none."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None
