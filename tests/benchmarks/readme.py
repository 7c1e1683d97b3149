"""The README's table of measured figures, from stored results: between its two markers, and nowhere else.

python -m tests.benchmarks.readme [full | short]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results")
PAGE = ROOT / "README.md"
MARKED = re.compile(r"<!-- measured: (\w+) -->\n(.*?)<!-- measured -->", re.DOTALL)
SHOWN = ("files", "frame", "local", "tuned", "one", "daft", "floor")


def table(results: Mapping[str, Any]) -> str:
    """A line of how, and the figures of the first warm workload beside those of the cold one."""
    warm, cold = (
        next((w for w in results["workloads"] if w["mode"] == mode), {"contestants": [], "rows": 0})
        for mode in ("warm", "cold")
    )
    hot = {one["name"]: one for one in warm["contestants"]}
    first = {one["name"]: one for one in cold["contestants"]}
    machine = results["machine"]
    lines = [
        f"{warm['rows']:,} rows × 20 of 40 doubles, logistic regression, ten row rules; cold: {cold['rows']:,} rows, whole "
        f"process (UNCHANGED: {_cold(first.get('unchanged'))} s). [All figures](tests/README.md#measured).",
        "",
        f"| medians: {machine['system']}, {machine['cores']} cores, {results['date']}, `{results['command']}` "
        "| warm s | rows/s | CPU s a million rows | cold s |",
        "|---|---|---|---|---|",
    ]
    for name in SHOWN:
        if one := hot.get(name) or first.get(name):
            lines.append(f"| {one['title']} | {_warm(hot.get(name))} | {_cold(first.get(name))} |")
    return "\n".join(lines) + "\n"


def _warm(one: Mapping[str, Any] | None) -> str:
    if one is None or "median_s" not in one:
        return f"{one['problem'] if one else ''} | |"
    return f"{one['median_s']:.2f} | {one['rows_per_s']:,} | {one['cpu_s_per_million_rows']:.2f}"


def _cold(one: Mapping[str, Any] | None) -> str:
    return f"{one['median_s']:.1f}" if one and "median_s" in one else one["problem"] if one else ""


def marked(results: Mapping[str, Any]) -> str:
    """The table between its markers, of which the first says from which results it is."""
    return f"<!-- measured: {results['form']} -->\n{table(results)}<!-- measured -->"


def stored() -> list[Path]:
    """The stored results, those of the full form first."""
    return sorted(RESULTS.glob("*.json"))


def main() -> None:
    path = RESULTS / f"{sys.argv[1]}.json" if sys.argv[1:] else next(iter(stored()), None)
    if path is None or not path.exists():
        sys.exit(f"no results in {RESULTS}: run make bench first")
    results = json.loads(path.read_text())
    PAGE.write_text(MARKED.sub(lambda _: marked(results), PAGE.read_text()))


if __name__ == "__main__":
    main()
