"""The floor: as many processes as cores, each decodes Parquet with Arrow, calls the estimator, and writes Parquet.

No log, no checks, no lineage, no commit; the model is the estimator itself, loaded beforehand from its file. Warm, the
processes are there and have it. Row groups are shared out by rows, so that one big file keeps all cores busy.
"""

from __future__ import annotations

import json
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.contestants import BATCH_ROWS, KEY, SCORE, Score, Setting, Task

GROUP_ROWS = 1 << 20
Piece = tuple[str, tuple[int, ...]]
"""A file and some of its row groups."""


def start(variant: str, setting: Setting) -> Score:
    """Start the processes; with one core, or little to do, this one does it."""
    pools = list[ProcessPoolExecutor]()

    def score(task: Task) -> None:
        Path(task.out).mkdir(parents=True, exist_ok=True)
        shares = _share_out(task.table, setting.cores)
        if len(shares) == 1:
            _limit_threads()
            _score(task, 0, shares[0])
            return
        if not pools:
            context = multiprocessing.get_context("spawn")
            pools.append(ProcessPoolExecutor(setting.cores, mp_context=context, initializer=_limit_threads))
        list(pools[0].map(_score, [task] * len(shares), range(len(shares)), shares))

    return score


def _share_out(table: str, cores: int) -> list[list[Piece]]:
    """Row groups of the table's files, about as many rows for each core."""
    pieces = list[tuple[int, Piece]]()
    for line in Path(table, "_delta_log", f"{0:020}.json").read_text().splitlines():
        if added := json.loads(line).get("add"):
            path = str(Path(table, added["path"]))
            rows = json.loads(added["stats"])["numRecords"]
            pieces += [(rows, (path, ()))] if rows <= GROUP_ROWS else _row_groups(path)
    shares: list[tuple[int, list[Piece]]] = [(0, []) for _ in range(min(cores, len(pieces)))]
    for rows, piece in sorted(pieces, reverse=True):
        at = min(range(len(shares)), key=lambda n: shares[n][0])
        shares[at] = (shares[at][0] + rows, [*shares[at][1], piece])
    return [share for _, share in shares]


def _row_groups(path: str) -> list[tuple[int, Piece]]:
    told = pq.read_metadata(path)
    return [(told.row_group(n).num_rows, (path, (n,))) for n in range(told.num_row_groups)]


def _limit_threads() -> None:
    import threadpoolctl

    pa.set_cpu_count(1)
    threadpoolctl.threadpool_limits(1)
    warnings.filterwarnings("ignore", message="X does not have valid feature names")


@cache
def _model(files: str) -> Any:
    import skops.io

    file = str(Path(files, "model.skops"))
    model = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    _limit_threads()  # of libraries that came with the model, too
    return model


def _score(task: Task, number: int, share: list[Piece]) -> None:
    model = _model(task.files)
    keys, scores = list[pa.Array](), list[pa.Array]()
    for path, groups in share:
        with pq.ParquetFile(path, pre_buffer=True) as file:
            chosen = list(groups) if groups else None
            for batch in file.iter_batches(BATCH_ROWS, chosen, [KEY, *task.features], use_threads=False):
                keys.append(batch.column(KEY))
                scores.append(pa.array(np.ascontiguousarray(model.predict_proba(_inputs(batch, task))[:, 1])))
    table = pa.table({KEY: pa.chunked_array(keys), SCORE: pa.chunked_array(scores)})
    pq.write_table(table, Path(task.out, f"part-{number}.parquet"), row_group_size=GROUP_ROWS)


def _inputs(batch: pa.RecordBatch, task: Task) -> Any:
    """The features as the estimator takes them: a matrix in Fortran order, filled column by column, or a frame."""
    if task.form == "frame":
        return batch.select(list(task.features)).to_pandas()
    matrix = np.empty((batch.num_rows, len(task.features)), order="F")
    for number, name in enumerate(task.features):
        matrix[:, number] = batch.column(name).to_numpy(zero_copy_only=False)
    return matrix
