"""The local engine's processes: each takes the next unit, and when one fails or dies nobody takes another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import threadpoolctl
from sklearn.linear_model import LinearRegression

from lakehouse.engines import local
from lakehouse.engines.spark import sessions
from lakehouse.errors import ModelRefused, Unavailable
from lakehouse.sources import Unit
from tests.conftest import read, score, write

PARTS, ROWS = 8, 10
DRIVER, OTHER = "driver", "other"


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)


@dataclass(frozen=True)
class Watched:
    """A unit that notes which process takes it. The driver's first one waits until another process has taken one.

    `act` is what another process does instead of reading it.
    """

    unit: Unit
    number: int
    driver: int
    folder: str
    act: Callable[[], None] | None

    @property
    def size(self) -> int:
        return self.unit.size

    def batches(self) -> Iterator[pa.RecordBatch]:
        who = DRIVER if os.getpid() == self.driver else OTHER
        Path(self.folder, f"{self.number}-{who}-{max(threads_of_libraries().values())}").touch()
        waits = 0
        while who == DRIVER and not any(OTHER in name for name in os.listdir(self.folder)) and waits < 600:
            time.sleep(0.1)
            waits += 1
        if who == OTHER and self.act is not None:
            self.act()
        time.sleep(0.2 if self.act else 0.02)
        yield from self.unit.batches()


@pytest.mark.long
def test_a_script_need_not_be_made_for_other_processes(taken, workspace):
    """Without `if __name__ == "__main__":` the others would run it once more."""
    taken()
    script = [
        "import lakehouse",
        "from lakehouse.engines import local",
        "print('runs')",
        "local.workers = lambda *_: 2",
        "print(lakehouse.score('conf/scores.yaml', engine='local').rows_scored)",
    ]
    Path("script.py").write_text("\n".join(script))
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["runs", str(PARTS * ROWS)]), done.stderr


def threads_of_libraries() -> dict[str, int]:
    return {"Arrow": pa.cpu_count()} | {p["filepath"]: p["num_threads"] for p in threadpoolctl.threadpool_info()}


def die() -> None:
    os._exit(9)


def lose_a_file() -> None:
    raise OSError("No space left on device")


def refuse() -> None:
    raise ModelRefused("it answers with a riddle")


@pytest.fixture
def taken(make_job, uri, monkeypatch, tmp_path):
    """taken(act) → (job, whoever took each unit, by its number): a job of 8 files on two processes."""
    for part in range(PARTS):
        ids = np.arange(part * ROWS, (part + 1) * ROWS)
        write("lake/features", pa.table({"id": ids, "a": ids / 10}))
    real, folder = local.run, tmp_path / "taken"
    folder.mkdir()

    def make(act: Callable[[], None] | None = None):
        def run(work, workers, staging, path):
            assert (len(work), workers) == (PARTS, 2)
            watched = [Watched(unit, number, os.getpid(), str(folder), act) for number, unit in enumerate(work)]
            return real(watched, workers, staging, path)

        monkeypatch.setattr(local, "workers", lambda *_: 2)
        monkeypatch.setattr(local, "run", run)
        return make_job(uri, predictions={"p": 0}), lambda: sorted(p.name.split("-") for p in folder.iterdir())

    return make


@pytest.mark.parametrize("by", ["quota of a container", "affinity"])
def test_the_number_of_cores_is_that_of_this_process_and_not_of_the_machine(by, monkeypatch):
    from joblib.externals.loky.backend import context

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(3 if by == "affinity" else 64)))
    monkeypatch.setattr(context, "_cpu_count_cgroup", lambda count: count if by == "affinity" else 3)
    assert (local.cores(), sessions._local_settings(False, False)["spark.sql.shuffle.partitions"]) == (3, "3")


def test_the_number_of_cores_is_asked_for_in_one_place():
    asking = re.compile(r"\b(?<!pa\.)(cpu_count|sched_getaffinity|process_cpu_count)\(")
    package = Path(local.__file__).parents[1]
    assert [str(path.relative_to(package)) for path in package.rglob("*.py") if asking.search(path.read_text())] == [
        "engines/local.py"
    ]


def test_this_process_and_others_share_the_units(taken):
    job, took = taken()
    before = threads_of_libraries()
    assert score(job).rows_scored == PARTS * ROWS
    assert [number for number, _, _ in took()] == [str(n) for n in range(PARTS)]
    assert {who for _, who, _ in took()} == {DRIVER, OTHER}
    assert {(who, threads) for _, who, threads in took()} == {(DRIVER, "1"), (OTHER, "1")}  # each has a core
    assert before.items() <= threads_of_libraries().items()  # as they were
    rows = read("lake/scores").sort_by("id")
    assert rows["id"].to_pylist() == list(range(PARTS * ROWS))
    np.testing.assert_allclose(rows["p"].to_numpy(), np.arange(PARTS * ROWS))


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (die, Unavailable, r"a worker process died \(out of memory, or killed\): nothing was published"),
        (lose_a_file, Unavailable, "a file can't be read or written: No space left on device"),
        (refuse, ModelRefused, "it answers with a riddle"),
    ],
    ids=["dies", "loses a file", "refuses"],
)
@pytest.mark.quick("dies")
def test_where_another_process_fails_nobody_takes_another_unit(taken, act, error, message):
    job, took = taken(act)
    with pytest.raises(error, match=message):
        score(job)
    assert len(took()) < PARTS
    assert not Path("lake/scores/_delta_log").exists()


@pytest.mark.long
def test_where_this_process_fails_nobody_takes_another_unit(taken, monkeypatch):
    job, took = taken()
    monkeypatch.setattr(local, "_task", gone)
    with pytest.raises(Unavailable, match="can't be read or written: gone"):
        score(job)
    assert len(took()) < PARTS


def gone(*arguments):
    """What the driver's own task raises; the other processes have the real one."""
    raise OSError("gone")
