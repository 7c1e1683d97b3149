"""The benchmark itself: that its figures are of the same scores, that nobody is left out silently, that README shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tests.benchmarks import __main__ as benchmark
from tests.benchmarks import agreement, growth, machine, peers, readme, report, summary, workloads
from tests.benchmarks.contestants import ALL, Task
from tests.benchmarks.measuring import Taken
from tests.benchmarks.taking_turns import Record


@pytest.mark.long
def test_a_tiny_run_writes_its_results_and_all_predictions_agree(tmp_path):
    benchmark.main(["--rows", "4000", "--turns", "1", "--only", "local", "one", "--results", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"short.md", "short.json", "short.svg"}
    told = json.loads((tmp_path / "short.json").read_text())
    for workload in told["workloads"]:
        named = [(one["name"], one["problem"]) for one in workload["contestants"]]
        assert named == [("floor", ""), ("local", ""), ("one", "")]
        assert all(one["median_s"] > 0 and one["cpu_s"] > 0 for one in workload["contestants"])
        assert all(one["peak_mb"]["driver"] > 0 for one in workload["contestants"])
    reached = {one["target"]: one["reached"] for one in told["targets"]}
    assert reached["the same, local engine: × the floor"] > 0
    assert "| (d) one process, deltalake and `mlflow.pyfunc` |" in (tmp_path / "short.md").read_text()


def test_the_readmes_table_is_that_of_the_stored_results():
    [(form, _)] = readme.MARKED.findall(readme.PAGE.read_text())
    stored = {path.stem: path for path in readme.stored()}
    assert form in stored or (form == "none" and not stored), "python -m tests.benchmarks.readme"
    if stored:
        assert readme.marked(json.loads(stored[form].read_text())) in readme.PAGE.read_text(), (
            "python -m tests.benchmarks.readme"
        )


def taken(*seconds: float) -> Record:
    """A contestant's turns."""
    return Record([Taken(one, 2 * one, {"driver": 200_000_000}) for one in seconds])


@pytest.fixture
def results():
    """Results of made-up turns of the short form: (b) failed, Daft is not installed."""
    warm, cold = workloads.short(1_000_000)
    records = {name: taken(4.0, 2.0, 3.0) for name in warm.contestants}
    records["floor"], records["files"] = taken(1.0, 2.0, 3.0), taken(9.0, 3.0, 3.0)
    records["tuned"], records["daft"] = Record(problem="failed: no memory"), Record(problem="not installed: no network")
    sizes = [
        growth.Grown(kind, name, n * 1_000_000, n, Taken(5.0 + n, 1.0, {"driver": 300_000_000, "worker": 10**8 * n}))
        for kind in ("rows", "files")
        for name in ("files", "local")
        for n in (1, 4, 16)
    ]
    sizes.append(growth.Grown("log", "local", 5_000_000, growth.LOG_FILES, None, "no time left"))
    facts = machine.describe("make bench") | machine.load_at_end()
    both = [(warm, records), (cold, {name: taken(10.0) for name in cold.contestants})]
    return summary.summarize("short", facts, both, sizes)


def test_figures_are_ratios_of_medians(results):
    reached = {one["target"]: (one["reached"], one["met"]) for one in results["targets"]}
    assert reached["logistic, warm, `files`, Spark: × the floor"] == (1.5, True)
    assert reached["the same, local engine: × the floor"] == (1.5, False)
    assert reached["logistic, warm, `files`, Spark: times as fast as (b)"] == (None, None)
    assert reached["UNCHANGED: × (d) cold"] == (1.0, False)
    title = "rows ×4, ×16, `lakehouse`, Spark, `files` carrier: "
    assert reached[title + "seconds for each, the largest size over the least of the others"] == (0.58, True)
    assert reached[title + "a worker's peak, the largest over that of the smallest size"] == (16.0, False)
    assert reached[title + "a driver's peak, the largest over that of the smallest size"] == (1.0, True)
    [floor, files, *_] = results["workloads"][0]["contestants"]
    assert (floor["median_s"], floor["cpu_s_per_million_rows"], floor["rows_per_s"]) == (2.0, 4.0, 500_000)
    assert files["seconds"] == [9.0, 3.0, 3.0]


def test_nobody_is_left_out_silently(results):
    page = report.markdown(results)
    assert "| (e) Daft, class UDF | not installed: no network |" in page
    assert "| (b) `spark_udf` script, tuned | failed: no memory |" in page
    warm = page.partition("## Warm")[2].partition("## Cold")[0]
    assert all(one.title in warm for name, one in ALL.items() if name not in ("bare", "unchanged"))
    assert "| log | local | 5,000,000 | 50,000 | no time left |" in page


def test_the_readmes_table_says_what_is_missing(results):
    table = readme.table(results)
    assert "| (b) `spark_udf` script, tuned | failed: no memory | | |  |" in table
    assert "| `lakehouse`, Spark, `files` carrier | 3.00 | 333,333 | 6.00 | 10.0 |" in table
    assert "UNCHANGED: 10.0 s" in table
    assert len(table.splitlines()) == 3 + 1 + len(readme.SHOWN)


def test_other_predictions_than_the_floors_are_found(tmp_path):
    keys, scores = np.arange(1_000), np.linspace(0.1, 0.9, 1_000)
    (tmp_path / "floor").mkdir()
    pq.write_table(pa.table({"id": keys, "p": scores}), tmp_path / "floor/part-0.parquet")

    def found(name: str, ids: np.ndarray, values: np.ndarray) -> str:
        write_deltalake(tmp_path / name, pa.table({"id": ids, "p": values}), mode="overwrite")
        floor, other = (Task("", "", (), "", "", "", "", str(tmp_path / one)) for one in ("floor", name))
        return agreement.differs(floor, other)

    assert found("same", keys[::-1], scores[::-1] * (1 + 1e-12)) == ""
    assert found("fewer", keys[1:], scores[1:]) == "wrong: 999 rows instead of 1,000"
    assert found("twice", np.append(keys[1:], 5), scores) == "wrong: other keys than the floor's"
    assert found("other", keys, np.append(scores[:-1], 0.5)) == "wrong: 1 predictions are not the floor's"
    assert found("nan", keys, np.append(scores[:-1], np.nan)) == "wrong: 1 predictions are not the floor's"


def test_peers_load_the_model_with_the_same_versions():
    lock = (Path(peers.ROOT) / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([\w-]+)(?:\[[\w,]+\])?==(\S+)$", peers.WANTED.read_text(), re.MULTILINE))
    assert {"daft", "ray"} < set(pinned)
    for name in set(pinned) - {"daft", "ray"}:
        assert pinned[name] in re.findall(rf"^{name}==(\S+)", lock, re.MULTILINE), name  # Intel Macs may have another
