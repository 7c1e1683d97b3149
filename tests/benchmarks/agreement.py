"""Whether contestants have written what the floor has: as many rows, the same keys, the same predictions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds

from tests.benchmarks.contestants import KEY, SCORE, Task

RELATIVE = 1e-9


def differs(floor: Task, other: Task) -> str:
    """What is wrong with a contestant's table; "" where nothing is."""
    keys, scores = _floors(floor.out)
    mine, my_scores = _read(other.out)
    if len(mine) != len(keys):
        return f"wrong: {len(mine):,} rows instead of {len(keys):,}"
    if not np.array_equal(mine, keys):
        return "wrong: other keys than the floor's"
    near = np.isclose(my_scores, scores, rtol=RELATIVE, atol=0)
    return "" if near.all() else f"wrong: {np.count_nonzero(~near):,} predictions are not the floor's"


@lru_cache(maxsize=1)
def _floors(out: str) -> tuple[np.ndarray, np.ndarray]:
    return _read(out)


def _read(out: str) -> tuple[np.ndarray, np.ndarray]:
    """Keys in order, and their predictions."""
    table = ds.dataset(live_files(Path(out)), format="parquet").to_table([KEY, SCORE])
    keys, scores = table[KEY].to_numpy(), table[SCORE].to_numpy()
    order = np.argsort(keys, kind="stable")
    return keys[order], scores[order]


def live_files(out: Path) -> list[str]:
    """The Parquet files of a Delta table's last version, else those of a folder."""
    if (out / "_delta_log").is_dir():
        from deltalake import DeltaTable

        return [str(uri) for uri in DeltaTable(out).file_uris()]
    return [str(path) for path in sorted(out.rglob("*.parquet"))]


def tidy(out: Path) -> None:
    """Remove the files of earlier versions, which would fill the disk turn by turn; the log stays as it is."""
    if (out / "_delta_log").is_dir():
        live = {Path(path).resolve() for path in live_files(out)}
        for path in out.rglob("*.parquet"):
            if "_delta_log" not in path.parts and path.resolve() not in live:
                path.unlink()
