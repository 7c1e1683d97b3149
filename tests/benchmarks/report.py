"""The results as files: JSON as they are, Markdown to be read, and a chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import chart, summary
from tests.benchmarks.contestants import ALL
from tests.benchmarks.growth import ENGINES, Grown
from tests.benchmarks.models import TITLES
from tests.benchmarks.taking_turns import Record
from tests.benchmarks.workloads import Workload

SHAPES = {
    "narrow": "20 of 40 doubles",
    "wide": "500 doubles",
    "mixed": "6 columns of texts and 12 doubles",
}


def write(
    folder: Path,
    form: str,
    facts: Mapping[str, Any],
    found: Sequence[tuple[Workload, dict[str, Record]]],
    grown: Sequence[Grown],
) -> None:
    """Write the three files into the folder, named after the form."""
    results = summary.summarize(form, facts, found, grown)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{form}.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (folder / f"{form}.md").write_text(markdown(results))
    chart.draw(results, folder / f"{form}.svg")
    print(f"written: {folder / form}.md, .json, .svg")


def markdown(results: Mapping[str, Any]) -> str:
    """The page of the results."""
    parts = [f"# Measured, {results['form']} form", where(results), _targets(results)]
    parts.append(f"![medians of the first workload warm, and cold]({results['form']}.svg)")
    parts += [_workload(one) for one in results["workloads"]]
    if results["growth"]:
        parts.append(_growth(results["growth"]))
    return "\n\n".join(parts) + "\n"


def where(results: Mapping[str, Any]) -> str:
    """When, by which command, on what."""
    machine = results["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{results['date']}, `{results['command']}`: {machine['system']}, {machine['cores']} cores "
        f"({machine['processor']}), {machine['memory_gb']} GB, Python {machine['python']}, {libraries}. The load was "
        f"{results['load_before']} before it began, {results['load_after']} at the end.\n\n"
        "Medians of turns taken one after the other in this run, less those that warm up, and the first where there are more (a job's first run makes tables, golden rows and a baseline). `lakehouse` runs with ten row "
        "rules, drift and lineage. Everybody's rows and predictions were held against the floor's "
        "(relative 1e-9). Peaks are of resident memory: the process itself, Java, and the largest of the others."
    )


def _targets(results: Mapping[str, Any]) -> str:
    lines = ["| ratio of medians | asked | reached | |", "|---|---|---|---|"]
    for one in results["targets"]:
        asked = f"{'≥' if one['at_least'] else '≤'} {one['asked']:,}"
        reached = "not measured" if one["reached"] is None else f"{one['reached']:,}"
        lines.append(f"| {one['target']} | {asked} | {reached} | {_verdict(one['met'])} |")
    return "\n".join(lines)


def _verdict(met: bool | None) -> str:
    return "" if met is None else "yes" if met else "no"


def title(workload: Mapping[str, Any]) -> str:
    """A workload in a line."""
    files = "one file" if workload["files"] == 1 else f"{workload['files']:,} files"
    rows = f"{workload['rows']:,} rows × {SHAPES[workload['shape']]} in {files}"
    return f"{workload['mode'].capitalize()}: {rows}, {TITLES[workload['model']]}"


def _workload(workload: Mapping[str, Any]) -> str:
    base = {one["name"]: one.get("median_s") for one in workload["contestants"]}
    turns = max((len(one.get("seconds", ())) for one in workload["contestants"]), default=0)
    lines = [
        f"## {title(workload)}",
        "",
        f"Turns: {turns}." + _left_out(workload),
        "",
        "| | median s | min s | rows/s | × the floor | (b) is slower by | CPU s a million rows | peak MB: itself | Java | other |",
        "|---" * 10 + "|",
    ]
    for one in workload["contestants"]:
        if "median_s" not in one:
            lines.append(f"| {one['title']} | {one['problem'] or 'no turn'} |" + " |" * 8)
            continue
        median, peaks = one["median_s"], one["peak_mb"]
        cells = [
            f"{median:.2f}",
            f"{min(one['seconds']):.2f}",
            f"{one['rows_per_s']:,}",
            _ratio(median, base.get("floor")),
            _ratio(base.get("tuned"), median),
            f"{one['cpu_s_per_million_rows']:.2f}" if workload["rows"] >= 100_000 else f"{one['cpu_s']:.2f} s in all",
            *(f"{peaks[kind]:,}" if kind in peaks else "" for kind in ("driver", "java", "worker")),
        ]
        lines.append(f"| {one['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _left_out(workload: Mapping[str, Any]) -> str:
    """Who takes no part in this workload, so that nobody is missing silently."""
    here = {one["name"] for one in workload["contestants"]}
    only_cold = {"bare", "unchanged"} if workload["mode"] == "warm" else set[str]()
    missing = [one.title for one in ALL.values() if one.name not in here | only_cold]
    return f" Not run here: {'; '.join(missing)}." if missing else ""


def _ratio(one: float | None, other: float | None) -> str:
    return "" if one is None or other is None else f"{one / other:.2f}"


def _growth(sizes: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "## What grows",
        "",
        "Logistic regression, medians of three runs in a warm process; the log's is a dry run, a whole process.",
        "",
        "| | engine | rows | files | s | CPU s | peak MB: itself | Java | worker |",
        "|---" * 9 + "|",
    ]
    for one in sizes:
        size = f"| {one['kind']} | {ENGINES[one['contestant']]} | {one['rows']:,} | {one['files']:,} |"
        if "seconds" not in one:
            lines.append(f"{size} {one['problem']} | | | | |")
            continue
        peaks = [f"{one['peak_mb'][kind]:,}" if kind in one["peak_mb"] else "" for kind in ("driver", "java", "worker")]
        lines.append(f"{size} {one['seconds']:.2f} | {one['cpu_s']:.2f} | {' | '.join(peaks)} |")
    return "\n".join(lines)
