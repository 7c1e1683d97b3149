"""What `lakehouse check` found out of a job, as a table."""

from __future__ import annotations

import io
from collections.abc import Sequence

from lakehouse.operations.checking import FAILED, SKIPPED, STEPS, Checked
from lakehouse.views.planned import terminal_width

_WIDTH = 120


def checked_text(checked: Checked) -> str:
    """One job: a line a step, then what is wrong, and what is worth a warning."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{checked.job}  ({checked.conf})", title_justify="left", box=box.SIMPLE_HEAD, show_header=False
    )
    for name in STEPS:
        state = checked.steps[name]
        style = {FAILED: "bold red", SKIPPED: "dim"}.get(state, "")
        table.add_row(Text(name), Text(state, style=style), Text(checked.said[name]))
    width = terminal_width()
    console = Console(file=io.StringIO(), width=width or _WIDTH, force_terminal=width is not None)
    console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO
    lines = [line.rstrip() for line in shown.rstrip().splitlines()]
    lines += [f"warning: {warning}" for warning in checked.warnings]
    lines += [f"{checked.status.replace('_', ' ')} (exit {checked.code}): {checked.message}"] if checked.code else []
    return "\n".join(lines)


def summary(every: Sequence[Checked]) -> str:
    """All jobs in a line."""
    failed = [checked.job for checked in every if checked.code]
    jobs = f"{len(every)} {'job' if len(every) == 1 else 'jobs'}"
    return f"{jobs}: " + (f"{len(failed)} can't be run: {', '.join(failed)}" if failed else "all could be run")
