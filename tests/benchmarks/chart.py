"""The medians as bars: the first warm workload and the cold one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS, THEIRS, FLOOR = "#1f6f8b", "#b8b8b8", "#e0a030"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Write an SVG: seconds on a logarithmic axis, the fastest on top. Text stays text, so the file stays small."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    shown = [next((w for w in results["workloads"] if w["mode"] == mode), None) for mode in ("warm", "cold")]
    there = [workload for workload in shown if workload is not None]
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lakehouse", "font.size": 9}):
        figure, axes = pyplot.subplots(len(there), 1, figsize=(8, 3.2 * len(there)), squeeze=False)
        for axis, workload in zip(axes[:, 0], there, strict=True):
            _bars(axis, workload)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _bars(axis: Any, workload: Mapping[str, Any]) -> None:
    rivals = sorted((one for one in workload["contestants"] if "median_s" in one), key=lambda one: -one["median_s"])
    seconds = [one["median_s"] for one in rivals]
    colors = [FLOOR if one["name"] == "floor" else OURS if "lakehouse" in one["title"] else THEIRS for one in rivals]
    bars = axis.barh([one["title"].replace("`", "") for one in rivals], seconds, color=colors)
    axis.bar_label(bars, [f" {value:.2f} s" for value in seconds])
    axis.set_xscale("log")
    axis.set_title(f"{workload['mode']}: {workload['rows']:,} rows, {workload['model']}, median seconds", fontsize=9)
    axis.margins(x=0.15)
    axis.spines[["top", "right"]].set_visible(False)
