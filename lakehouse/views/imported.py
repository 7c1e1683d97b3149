"""A model's file as `lakehouse model inspect` shows it: what it holds, and what it would take to import it."""

from __future__ import annotations

import io
from collections.abc import Iterator

from lakehouse.models.importing.inspected import Inspected
from lakehouse.models.importing.versions import Compared


def inspected_text(found: Inspected, versions: list[Compared], width: int | None = None) -> str:
    """Two tables: what the file holds, and what importing it takes. `width`: the terminal's; None for no terminal."""
    from rich.console import Console
    from rich.table import Table

    holds = Table("", str(found.path), title_justify="left")
    for name, value in _facts(found):
        holds.add_row(name, value)
    takes = Table("library", "recorded", "here", "")
    for row in versions:
        takes.add_row(row.library, ", ".join(row.recorded) or "not recorded", row.here or "none", row.wrong or "fits")
    out = io.StringIO()
    console = Console(file=out, width=width or 120, markup=False, highlight=False, emoji=False)
    console.print(holds)
    console.print(takes)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def _facts(found: Inspected) -> Iterator[tuple[str, str]]:
    yield "kind", found.kind
    yield "size, sha256", f"{found.size:,} bytes, {found.digest[:16]}…"
    yield "holds", found.holds
    if found.named:
        yield f"names ({len(found.named)})", "\n".join(found.named[:40]) + ("\n…" if len(found.named) > 40 else "")
    if found.pythons:
        yield "written by", "\n".join(found.pythons)
    if found.unknown:
        yield "can't be told", "\n".join(found.unknown)
    if found.objections:
        yield "refused", "\n".join(found.objections)
    yield "trust", "\n".join(f"--trust {word}: {why}" for word, why in found.trust) or "none: it is data"
