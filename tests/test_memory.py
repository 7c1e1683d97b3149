"""What reading costs: a worker holds one row group as it is stored, and one batch of it as Arrow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakehouse
from lakehouse.config import Model, Source
from lakehouse.sources.delta import pin
from tests.conftest import write

READ = """
import re, resource, sys
from pathlib import Path
from lakehouse.config import Source
from lakehouse.sources.delta import pin, units

def peak():
    status = Path("/proc/self/status")  # on Linux, getrusage would tell of the parent's peak too
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

pinned = pin(Source(type="delta", table=sys.argv[1]))
before = peak()
rows = sum(b.num_rows for u in units(pinned, pinned.snapshot.schema.names, int(sys.argv[2]), 1) for b in u.batches())
print(rows, before, peak())
"""


@pytest.mark.slow
def test_a_large_row_group_is_read_in_bounded_memory(workspace):
    """300 MB of doubles that don't compress: at most 1.5 times the row group on top of the imports (measured: 1.3)."""
    rows, table = 1_000_000, workspace / "wide"
    write(str(table), pa.table({f"x{i}": [0.0] for i in range(37)}))
    [file] = pin(Source(type="delta", table=str(table))).files
    noise = np.random.default_rng(0).normal(size=rows)
    columns = {f"x{i}": np.roll(noise, i) for i in range(37)}
    pq.write_table(pa.table(columns), table / file.relative, row_group_size=rows, use_dictionary=False)
    group = pq.read_metadata(table / file.relative).row_group(0)
    assert (group.num_rows, group.total_byte_size > 295e6) == (rows, True)
    batch_rows = Model.model_fields["batch_rows"].default
    done = subprocess.run(
        [sys.executable, "-c", READ, str(table), str(batch_rows)], cwd=Path(lakehouse.__file__).parents[1],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    read, before, peak = map(int, done.stdout.split())
    assert read == rows
    assert peak - before < 1.5 * group.total_byte_size, f"{(peak - before) / group.total_byte_size:.2f} times the group"
    assert peak < 1e9
