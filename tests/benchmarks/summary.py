"""What was measured as one object: medians, ratios of medians, and how they stand to what is asked for."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.benchmarks.contestants import ALL
from tests.benchmarks.growth import LOG_FILES, Grown
from tests.benchmarks.tables import SHAPES
from tests.benchmarks.taking_turns import Record
from tests.benchmarks.workloads import TARGETS, Workload

FORMAT = 1
FLAT, LINEAR = 1.25, 1.5
"""Memory may grow by so much and still be called flat; each row may cost so much more than where there are fewer."""
MOST_WORKER_MB, MOST_LOG_S, MOST_LOG_MB = 1_000, 10, 1_500


def summarize(
    form: str, facts: Mapping[str, Any], found: Sequence[tuple[Workload, dict[str, Record]]], grown: Sequence[Grown]
) -> dict[str, Any]:
    """The results as they are stored."""
    measured = [_workload(workload, records) for workload, records in found]
    sizes = [_grown(one) for one in grown]
    targets = [*_targets(measured), *_growth_targets(sizes)]
    return {"format": FORMAT, "form": form, **facts, "targets": targets, "workloads": measured, "growth": sizes}


def _workload(workload: Workload, records: Mapping[str, Record]) -> dict[str, Any]:
    return {
        "name": workload.name,
        "mode": workload.mode,
        "model": workload.model,
        "shape": workload.shape,
        "columns": len(SHAPES[workload.shape].features),
        "rows": workload.rows,
        "files": workload.files,
        "contestants": [_contestant(name, record, workload.rows) for name, record in records.items()],
    }


def _contestant(name: str, record: Record, rows: int) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "title": ALL[name].title, "problem": record.problem}
    if not record.taken or record.problem:
        return told
    seconds = [one.seconds for one in record.taken]
    median = statistics.median(seconds)
    cpu = statistics.median(one.cpu for one in record.taken)
    return told | {
        "seconds": [round(one, 3) for one in seconds],
        "median_s": round(median, 3),
        "rows_per_s": round(rows / median),
        "cpu_s": round(cpu, 2),
        "cpu_s_per_million_rows": round(cpu / rows * 1e6, 2),
        "peak_mb": _megabytes(one.peaks for one in record.taken),
    }


def _megabytes(peaks: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The highest peak of each kind of process."""
    found: dict[str, int] = {}
    for one in peaks:
        for kind, size in one.items():
            found[kind] = max(found.get(kind, 0), round(size / 1e6))
    return found


def _grown(one: Grown) -> dict[str, Any]:
    told = {
        "kind": one.kind,
        "contestant": one.contestant,
        "rows": one.rows,
        "files": one.files,
        "problem": one.problem,
    }
    if one.taken is None:
        return told
    return told | {
        "seconds": round(one.taken.seconds, 2),
        "cpu_s": round(one.taken.cpu, 2),
        "peak_mb": _megabytes([one.taken.peaks]),
    }


def median_of(measured: Sequence[Mapping[str, Any]], workload: str, name: str) -> float | None:
    """The median seconds of a contestant in a workload; None where it has none."""
    for one in measured:
        for contestant in one["contestants"] if one["name"] == workload else ():
            if contestant["name"] == name:
                found: float | None = contestant.get("median_s")
                return found
    return None


def _targets(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    told = []
    for target in TARGETS:
        mine, other = median_of(measured, *target.mine), median_of(measured, *target.other)
        reached = None if mine is None or other is None else other / mine if target.faster else mine / other
        told.append(_target(target.text, target.asked, reached, target.faster))
    return told


def _target(text: str, asked: float, reached: float | None, at_least: bool = False) -> dict[str, Any]:
    met = None if reached is None else reached >= asked if at_least else reached <= asked
    rounded = None if reached is None else round(reached, 2)
    return {"target": text, "at_least": at_least, "asked": asked, "reached": rounded, "met": met}


def _growth_targets(sizes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of both engines: time for each row or file, the peaks of workers and of the driver."""
    if not sizes:
        return []
    told = []
    for kind, what in (("rows", "rows ×4, ×16"), ("files", "files 10 to 10,000")):
        for name in ("files", "local"):
            title = f"{what}, {ALL[name].title}"
            runs = [one for one in sizes if one["kind"] == kind and one["contestant"] == name]
            whole = len(runs) > 2 and all("seconds" in one for one in runs)
            each = [one["seconds"] / one[kind] for one in runs] if whole else []
            told.append(_target(f"{title}: seconds for each, the largest size over the least of the others", LINEAR,
                                each[-1] / min(each[:-1]) if each else None))  # fmt: skip
            for process in ("worker", "driver"):
                peaks = [one["peak_mb"].get(process, 0) for one in runs] if whole else []
                if (process == "worker" and name == "local") or (whole and not all(peaks)):
                    continue  # the local engine's first worker is the driver
                told.append(_target(f"{title}: a {process}'s peak, the largest over that of the smallest size", FLAT,
                                    max(peaks) / peaks[0] if peaks else None))  # fmt: skip
                if process == "worker":
                    told.append(_target(f"{title}: a worker's peak, MB", MOST_WORKER_MB, max(peaks, default=None)))
    [log] = [one for one in sizes if one["kind"] == "log"]
    title = f"log of {LOG_FILES:,} files, dry run"
    told.append(_target(f"{title}: seconds", MOST_LOG_S, log.get("seconds")))
    told.append(_target(f"{title}: driver's peak, MB", MOST_LOG_MB, log.get("peak_mb", {}).get("driver")))
    return told
