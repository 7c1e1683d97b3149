"""What is said of a run while it works: its steps in words, and now and then how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from lakehouse.planning.plan import Say
from lakehouse.progress import Watch
from lakehouse.runs import ledger

Tell = Callable[[str, str, Mapping[str, Any]], None]
"""Told of a step: an event's name, the step in words, and the event's values."""
PROGRESS = "progress"
_EVERY = 5.0  # seconds between lines about how far it is


def in_words(event: str, values: Mapping[str, Any]) -> str:
    """A step of a run, in one line."""
    if event == "plan":
        model, read = values["model"], values["input"]
        version = "" if read["version"] is None else f" v{read['version']}"
        return (
            f"reading {read['table']}{version} with {ledger.title_of(model)}; "
            f"{values['carrier']} carrier: {values['reason']}"
        )
    if event == "units":
        rows = f", at most {values['rows']:,} rows" if values["rows"] is not None else ""
        units, tasks = (f"{values[k]} {k if values[k] != 1 else k[:-1]}" for k in ("units", "tasks"))
        return f"scoring {units} in {tasks}{rows}"
    if event == "resumed":
        return f"finished run {values['run_id']} ({values['status']}), which had stopped half way"
    return f"{event}: {values.get('message', dict(values))}"


def line_by_line(tell: Tell) -> tuple[Say, Watch]:
    """Tell each step as it comes, and every few seconds how many rows are read."""
    state: dict[str, Any] = {"rows": None, "units": None, "started": time.monotonic(), "told": time.monotonic()}

    def say(event: str, values: Mapping[str, Any]) -> None:
        if event == "units":
            state.update(rows=values["rows"], units=values["units"], started=time.monotonic())
        tell(event, in_words(event, values), values)

    def watch(units: int, rows: int) -> None:
        now = time.monotonic()
        if now - state["told"] < _EVERY:
            return
        state["told"] = now
        rate = rows / max(now - state["started"], 1e-3)
        left = f", about {(state['rows'] - rows) / max(rate, 1):.0f} s left" if state["rows"] else ""
        of = f" of {state['units']}" if state["units"] else ""
        said = f"read {rows:,} rows, {units}{of} units, {rate:,.0f} rows/s{left}"
        tell(PROGRESS, said, {"rows": rows, "units": units, "rows_per_second": round(rate, 1)})

    return say, watch
