"""`python -m lakehouse.engines.spark.rehearsal`: a session that does what a run asks of Spark, for `engines.classes`.

Ends once its JVM has, which writes the classes that it has loaded, and with its exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from lakehouse.engines.spark import sessions


def hand_on(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


def main() -> None:
    with sessions.session(delta=False) as spark:
        spark.range(0, 2, 1, 2).mapInArrow(hand_on, "id long").toArrow()
        gateway: Any = spark.sparkContext._gateway
    gateway.proc.stdin.close()
    sys.exit(gateway.proc.wait())


if __name__ == "__main__":
    main()
