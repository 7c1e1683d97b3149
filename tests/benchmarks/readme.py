"""The README's table of measured figures, from stored results: between its two markers, and nowhere else.

python -m tests.benchmarks.readme [tests/benchmarks/results/full.json]
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
SHOWN = ("files", "frame", "local", "unchanged", "tuned", "one", "daft", "floor", "bare")


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
        f"{warm['rows']:,} rows × 20 of 40 doubles, logistic regression behind a scaler; cold: {cold['rows']:,} rows, process "
        f"start to end. {machine['system']}, {machine['cores']} cores, {machine['memory_gb']} GB, {results['date']}, "
        f"`{results['command']}`.",
        "",
        "| medians of turns in one run | warm s | rows/s | CPU s a million rows | cold s |",
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


def main() -> None:
    path = Path(sys.argv[1]) if sys.argv[1:] else RESULTS / f"{MARKED.search(PAGE.read_text())[1]}.json"  # type: ignore[index]
    results = json.loads(path.read_text())
    marked = f"<!-- measured: {path.stem} -->\n{table(results)}<!-- measured -->"
    PAGE.write_text(MARKED.sub(lambda _: marked, PAGE.read_text()))


if __name__ == "__main__":
    main()
