"""Processes that share few units by blocks of rows, and what tells how many of them are worth it."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.engines import forking, local, pacing
from lakehouse.engines.turns import Divided, Turns
from tests.conftest import read, score, write
from tests.engines.test_local import DRIVER, OTHER, Watched

UNITS = ((0, 25, 3), (0,), (10, 10), (1,))
"""The rows of the batches of each unit."""


@dataclass(frozen=True)
class Numbers:
    """A unit of numbers from `first` on, in batches of these many."""

    first: int
    batch_rows: tuple[int, ...]

    def batches(self) -> Iterator[pa.RecordBatch]:
        at = self.first
        for rows in self.batch_rows:
            yield pa.record_batch({"n": pa.array(range(at, at + rows), pa.int64())})
            at += rows


def divided(rows: int) -> list[Divided]:
    firsts = np.cumsum([0, *map(sum, UNITS)])
    return [Divided(Numbers(int(first), unit), rows) for first, unit in zip(firsts, UNITS, strict=False)]


def turns() -> Turns:
    context = multiprocessing.get_context("spawn")
    return Turns(context.Value("q", 0), *(context.RawValue("b", False) for _ in range(3)))


def taken(shared: Turns, work: list[Divided]) -> Iterator[list[int]]:
    return (batch["n"].to_pylist() for unit in shared.of(work) for batch in unit.batches())


@pytest.mark.parametrize("rows", [1, 4, 10, 100])
@pytest.mark.parametrize("seed", range(5))
def test_each_block_is_taken_by_one_of_those_who_read_them_all(rows, seed):
    shared, draw = turns(), random.Random(seed)
    running, seen = [taken(shared, divided(rows)) for _ in range(3)], list[int]()
    while running:
        one = draw.choice(running)
        block = next(one, None)
        if block is None:
            running.remove(one)
            continue
        assert 0 < len(block) <= rows
        seen += block
    assert sorted(seen) == list(range(sum(map(sum, UNITS))))


def test_what_was_taken_is_scored_where_nobody_takes_more():
    shared = turns()

    class Late(Numbers):
        def batches(self):
            shared.over.value = True  # as by a process that is through with all, while this one reads
            return super().batches()

    assert list(taken(shared, [Divided(Late(0, (25,)), 10)])) == [[*range(9)]]
    assert shared.number.value == 1


def test_blocks_end_once_the_run_has_failed():
    shared = turns()
    mine = taken(shared, divided(10))
    assert next(mine)
    shared.lost.value = True
    assert list(mine) == []


@dataclass
class Clock:
    """A clock that a call of the model alone moves on."""

    row: float
    call: float
    now: float = 0.0
    rows: int = 0

    def score(self, batch, scoring, predict, counters):
        self.now += self.call + self.row * batch.num_rows
        self.rows += batch.num_rows


@pytest.fixture
def paced(monkeypatch):
    """paced(clock, rows) → the pace that is measured on a sample of 8,192 rows."""

    def measure(clock: Clock, rows: int, least: float = 1.5) -> pacing.Pace:
        class Staging:
            class scoring:
                route = None

            batch_rows = 65_536

        monkeypatch.setattr(pacing, "open_models", lambda folders, staging: (None, ()))
        monkeypatch.setattr(pacing, "start_counters", lambda scoring: None)
        monkeypatch.setattr(pacing, "score_batch", clock.score)
        monkeypatch.setattr(pacing.time, "perf_counter", lambda: clock.now)
        return pacing.measure(rows, least, pa.record_batch({"n": np.arange(8_192)}), Staging, {})

    return measure


def test_a_fast_model_on_few_rows_is_told_by_a_call_of_few(paced):
    clock = Clock(row=1e-6, call=1e-4)
    assert paced(clock, 10_000).seconds(10_000, 65_536) < 1.5
    assert clock.rows == 256


def test_a_slow_model_is_told_by_few_rows(paced):
    clock = Clock(row=1e-3, call=1e-3)
    assert paced(clock, 10_000).seconds(10_000, 65_536) == pytest.approx(10.001)
    assert clock.rows == 256 + 32 + 256


def test_what_a_call_costs_is_not_taken_for_what_a_row_costs(paced):
    clock = Clock(row=8e-6, call=0.03)
    pace = paced(clock, 400_000)
    assert (pace.row, pace.call) == (pytest.approx(8e-6), pytest.approx(0.03))
    assert clock.rows == 256 + 32 + 256 + 2_048 + 8_192


def test_blocks_cost_about_as_much_as_they_gain():
    assert pacing.Pace(1e-3, 1e-3).block_rows(10_000, 65_536, 2) == 100
    assert pacing.Pace(8e-6, 0.03).block_rows(400_000, 65_536, 2) == pytest.approx(40_000, rel=0.1)
    assert pacing.Pace(1e-7, 1e-4).block_rows(4_000_000, 65_536, 2) == 65_536


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)


def test_two_processes_share_one_file(make_job, uri, monkeypatch, tmp_path):
    rows, folder, real = 1_000, tmp_path / "taken", local.run
    folder.mkdir()
    write("lake/features", pa.table({"id": np.arange(rows), "a": np.arange(rows) / 10}))
    for name, value in (("START_SECONDS", 0.0), ("_DIVIDED_SECONDS", 0.0), ("_READING", np.inf)):
        monkeypatch.setattr(local, name, value)
    monkeypatch.setattr(pacing.Pace, "block_rows", lambda *_: 50)
    monkeypatch.setattr(local, "cores", lambda: 2)

    def run(work, workers, staging, path):
        [unit] = work
        assert (unit.rows, staging.batch_rows, workers) == (50, 50, 2)
        watched = Divided(Watched(unit.unit, 0, os.getpid(), str(folder), None), unit.rows)
        return real([watched], workers, staging, path)

    monkeypatch.setattr(local, "run", run)
    assert score(make_job(uri, predictions={"p": 0})).rows_scored == rows
    assert {name.name.split("-")[1] for name in folder.iterdir()} == {DRIVER, OTHER}
    assert len(list(Path("lake/scores").rglob("*.parquet"))) == 2
    scored = read("lake/scores").sort_by("id")
    assert scored["id"].to_pylist() == list(range(rows))
    np.testing.assert_allclose(scored["p"].to_numpy(), np.arange(rows))


def test_a_process_that_is_not_up_when_all_is_done_is_not_waited_for(make_job, uri, monkeypatch, tmp_path):
    for part in range(3):
        write("lake/features", pa.table({"id": np.arange(part * 10, part * 10 + 10), "a": np.arange(10) / 10}))
    monkeypatch.setattr(local, "START_SECONDS", 0.0)
    monkeypatch.setattr(local, "cores", lambda: 2)
    resource_tracker.ensure_running()
    Path(tmp_path, "sitecustomize.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.syspath_prepend(tmp_path)  # as processes of a very slow machine
    steps = []
    result = score(make_job(uri, predictions={"p": 0}), say=lambda event, values: steps.append(values.get("tasks")))
    assert (result.status, result.rows_scored, 2 in steps) == ("published", 30, True)
    assert not forking.is_in_use()
    forking.end()
