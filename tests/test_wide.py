"""Tables of thousands of columns: what is done once a column is done once, and what is kept of a run stays small."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.contract import conform, finder
from lakehouse.sources.delta import FileUnit, Reading
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
    unit = FileUnit(Reading(locate(str(tmp_path)), table.schema, (), (), 100), "wide.parquet", 1, ())
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
