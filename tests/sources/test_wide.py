"""Tables of thousands of columns: what is done once a column is done once, and what is kept of a run stays small."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.checks import profile, sketch
from lakehouse.config import Drift
from lakehouse.connectors.parquet import FileUnit, ReadSettings
from lakehouse.runs import drift
from lakehouse.schemas import conform, finder
from lakehouse.storage import locate

WIDE = 200


class Counted(str):
    """A column's name that counts how often it is turned to lower case."""

    folded = 0

    def lower(self) -> str:
        Counted.folded += 1
        return super().lower()


def test_a_file_is_asked_for_its_names_once_however_many_columns_are_read(tmp_path, monkeypatch):
    table = pa.table({f"f{i}": [1.0, 2.0] for i in range(WIDE)})
    pq.write_table(table, tmp_path / "wide.parquet")
    asked, plain = [], pq.ParquetFile.schema_arrow
    monkeypatch.setattr(pq.ParquetFile, "schema_arrow", property(lambda file: asked.append(1) or plain.fget(file)))
    unit = FileUnit(ReadSettings(locate(str(tmp_path)), table.schema, (), (), 100), "wide.parquet", 1, ())
    assert pa.Table.from_batches(unit.batches()).equals(table)
    assert len(asked) == 1


def test_names_in_another_case_are_folded_once_each():
    names = [Counted(f"F{i}") for i in range(WIDE)]
    find = finder(names, case_insensitive=True)
    Counted.folded = 0
    assert [find(f"f{i}") for i in range(WIDE)] == [f"F{i}" for i in range(WIDE)]
    assert Counted.folded == 0


def test_each_column_of_a_wide_file_in_another_case_is_found():
    schema = pa.schema([(f"f{i}", pa.int64()) for i in range(WIDE)])
    given = pa.record_batch({f"F{i}": pa.array([i]) for i in reversed(range(WIDE))})
    assert conform(given, schema).to_pylist() == [{f"f{i}": i for i in range(WIDE)}]


def _moved(columns: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> drift.DriftResult:
    """How these features stand to those of an earlier run."""
    seen, baseline = (_profile(pa.table(side)) for side in (columns, before))
    frozen = profile.baseline_of(baseline)
    held = tuple(("feature", column) for column in profile.drift(seen, frozen))
    return drift.DriftResult({"features": seen}, {"features": frozen}, "an earlier run", held)


def _profile(table: pa.Table) -> profile.Profile:
    sketches = profile.start(table.schema, table.column_names)
    profile.observe(sketches, table.combine_chunks().to_batches()[0])
    return profile.merge([profile.dump(sketches)])


def test_the_facts_show_the_columns_that_moved_most_or_have_a_rule_and_say_how_many_are_left_out(monkeypatch):
    monkeypatch.setattr(drift, "SHOWN", 4)
    values = np.linspace(0, 1, 400)
    before = {f"f{i}": values for i in range(20)}
    found = _moved(before | {"f7": values + 0.1, "f9": values + 0.5}, before)
    bins = {"features": profile.bins(found.profiles["features"], found.baselines["features"])}
    facts = drift.facts(found, bins, Drift(psi=0.2), {"f13"})
    assert [c["column"] for c in facts["columns"][:3]] == ["f9", "f7", "f13"]
    assert all(c["bins"] for c in facts["columns"])
    assert (len(facts["columns"]), facts["left_out"], facts["drifted"]) == (4, 16, 2)
    assert facts["figures"]["column"] == list(before)
    assert sum(psi > 0 for psi in facts["figures"]["psi"]) == 2


def test_very_many_columns_share_the_bins_that_a_worker_sends_home(monkeypatch):
    monkeypatch.setattr(sketch, "ALL_BINS", 4 * sketch.FEWEST)
    values = np.random.default_rng(0).normal(size=4_000)
    few, many = (_profile(pa.table({f"f{i}": values for i in range(n)})) for n in (1, 8))
    assert len(few.columns["f0"].keys) > sketch.FEWEST
    assert all(len(column.keys) <= sketch.FEWEST for column in many.columns.values())
    held = profile.drift(many, profile.baseline_of(few))[0]
    assert held.psi < 0.02  # coarser bins of a quarter of the same rows tell nearly the same
