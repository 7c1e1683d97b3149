"""Which files are there, by listing folders."""

from __future__ import annotations

import pytest

from lakehouse.storage import locate, sizes


@pytest.mark.parametrize("place", ["lake/table", "./lake/table/"])
def test_sizes_of_files_in_the_root_and_below_it(workspace, place):
    root = workspace / "lake/table"
    for name, content in (("a.parquet", b"1"), ("day=1/b.parquet", b"22"), ("day=1/hour=2/c.parquet", b"333")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    names = ["a.parquet", "day=1/b.parquet", "day=1/hour=2/c.parquet", "gone.parquet", "day=2/gone.parquet"]
    assert sizes(locate(place), names) == dict(zip(names, (1, 2, 3, None, None), strict=True))


def test_sizes_where_nothing_is(workspace):
    assert sizes(locate("lake/none"), ["a.parquet", "day=1/b.parquet"]) == {"a.parquet": None, "day=1/b.parquet": None}
