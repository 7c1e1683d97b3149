"""What batches of other sizes than the default cost: processor time a row of one thread, by model and rows a batch.

    python -m tests.benchmarks.batch_size [--turns 3] [--rows 131072] [--only logistic ...]

A model is called as a worker does, on the matrix that is made of an Arrow batch. All sizes take turns, the least of the
turns counts. On whose gain a choice by measurement would have to rest: see the last column.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.config.model import Model
from lakehouse.engines import local
from lakehouse.models import Given

SIZES = (4_096, 16_384, 65_536, 131_072)
DEFAULT = int(Model.model_fields["batch_rows"].default)


def models() -> Mapping[str, tuple[int, Callable[[], Any]]]:
    """By name: features, and what makes the model."""
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    return {
        "logistic": (20, lambda: make_pipeline(StandardScaler(), LogisticRegression())),
        "gradient boosting, 100 trees": (20, lambda: GradientBoostingClassifier(n_estimators=100)),
        "histogram boosting, 100 trees": (20, lambda: HistGradientBoostingClassifier(early_stopping=False)),
        "forest, 300 trees": (20, lambda: RandomForestClassifier(300, max_depth=8, random_state=0)),
        "xgboost, 100 trees": (20, lambda: XGBClassifier(n_estimators=100)),
        "lightgbm, 100 trees": (20, lambda: LGBMClassifier(n_estimators=100, verbose=-1)),
        "nearest neighbours": (20, lambda: KNeighborsClassifier(5)),
        "logistic, 500 features": (500, lambda: make_pipeline(StandardScaler(), LogisticRegression())),
    }


def table(features: int, rows: int) -> pa.RecordBatch:
    """Rows of doubles."""
    random = np.random.default_rng(1)
    return pa.record_batch({f"x{number}": random.normal(size=rows) for number in range(features)})


def seconds(call: Callable[[Any], Any], rows: pa.RecordBatch, size: int) -> float:
    """Processor time of all rows in batches of this size."""
    names, required = tuple(rows.schema.names), (True,) * rows.num_columns
    started = time.process_time()
    for at in range(0, rows.num_rows, size):
        batch = rows.slice(at, size)
        call(Given(batch.num_rows, tuple(batch.columns), names, required).as_matrix())
    return time.process_time() - started


def measure(features: int, make: Callable[[], Any], most: int, turns: int) -> dict[int, float]:
    """Microseconds a row, by rows a batch."""
    trained = table(features, 3_000)
    x = np.column_stack(trained.columns)
    model = make().fit(x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int))
    rows = table(features, most)
    sizes = [size for size in SIZES if size <= most]
    least = dict.fromkeys(sizes, float("inf"))
    seconds(model.predict_proba, rows.slice(0, sizes[0]), sizes[0])
    for _ in range(turns):
        for size in sizes:
            least[size] = min(least[size], seconds(model.predict_proba, rows, size))
    return {size: taken / rows.num_rows * 1e6 for size, taken in least.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.batch_size")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rows", type=int, default=131_072)
    parser.add_argument("--only", nargs="*", default=[], help="begin with one of these")
    asked = parser.parse_args()
    local.one_thread()
    print(f"{platform.platform()}, Python {platform.python_version()}, {asked.rows:,} rows, one thread, µs a row\n")
    print(
        f"| rows a batch | {' | '.join(f'{size:,}' for size in SIZES)} | the best gains |\n{'|---' * (len(SIZES) + 2)}|"
    )
    for name, (features, make) in models().items():
        if asked.only and not name.startswith(tuple(asked.only)):
            continue
        taken = measure(features, make, asked.rows, asked.turns)
        cells = [f"{taken[size]:.3g}" if size in taken else "" for size in SIZES]
        gain = 1 - min(taken.values()) / taken[DEFAULT]
        print(f"| {name} | {' | '.join(cells)} | {gain:.0%} |", flush=True)


if __name__ == "__main__":
    main()
