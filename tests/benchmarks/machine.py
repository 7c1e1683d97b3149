"""The machine and the libraries that figures were taken with, and how busy it was otherwise."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from lakehouse.engines import local

LIBRARIES = ("pyspark", "delta-spark", "deltalake", "mlflow", "scikit-learn", "pyarrow", "numpy", "pandas")


def describe(command: str) -> dict[str, Any]:
    """Date, command, machine and versions; the load is what ran beside the benchmark when it began."""
    peers = dict(line.split("==") for line in Path(__file__).with_name("peers.txt").read_text().split() if "==" in line)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command.strip(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": local.cores(),
            "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
            "python": platform.python_version(),
        },
        "versions": {name: metadata.version(name) for name in LIBRARIES}
        | {name.partition("[")[0]: peers[name] for name in peers if name.startswith(("daft", "ray"))},
        "load_before": round(os.getloadavg()[0], 1),
    }


def load_at_end() -> dict[str, Any]:
    """The load at the end, most of which is the benchmark's own."""
    return {"load_after": round(os.getloadavg()[0], 1)}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line] if (
        info.exists()
    ) else []  # fmt: skip
    return names[0] if names else platform.processor()
