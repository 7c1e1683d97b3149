"""Rows as events to a topic of Kafka, against a plain loop: `python -m tests.benchmarks.events [ROWS [TURNS]]`.

A file of scored rows (12 columns) is read and sent to a broker on this machine, in turns: by `publish_events`, and by a
loop that writes each row by `json.dumps` and sends it, as its users would write it. Last, the same messages once more, made
beforehand: what the client alone takes.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.connectors import delta
from lakehouse.connectors.kafka import sending
from lakehouse.connectors.messages import Event
from lakehouse.runs import announcing
from lakehouse.sinks.target import Target
from tests import kafka_server

FILE = "rows.parquet"


def table(rows: int) -> pa.Table:
    """Rows as the scored table of a job has them."""
    random, now = np.random.default_rng(0), datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    same = {
        "_job": "scores",
        "_model": "logit",
        "_model_version": "3",
        "_run_id": "2b0c3a52-6a55-4d50-8e9b-9a0b1c2d3e4f",
    }
    return pa.table(
        {
            "player_id": [f"player-{n:09}" for n in range(rows)],
            "country": random.choice(["DE", "FR", "Côte d'Ivoire"], rows),
            "p": random.random(rows),
            "q": np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)),
            "label": random.integers(0, 2, rows),
            **{name: [value] * rows for name, value in same.items()},
            "_scored_at": pa.array([now] * rows, pa.timestamp("us", "UTC")),
            "_input_version": [7] * rows,
            "_warnings": pa.array([[]] * rows, pa.list_(pa.string())),
        }
    )


def plain_loop(servers: str, topic: str, folder: str) -> None:
    """Row by row."""
    from confluent_kafka import Producer

    producer, failed = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 20}), []
    for batch in pq.ParquetFile(f"{folder}/{FILE}").iter_batches(10_000):
        for number, row in enumerate(batch.to_pylist()):
            row["q"] = None if row["q"] != row["q"] else row["q"]
            id_ = f"run/row/0/{number}"
            said = {"format": 1, "event": "row", "id": id_, "job": "scores", "row": row}
            value = json.dumps(said, default=lambda moment: moment.isoformat())
            while True:
                try:
                    producer.produce(
                        topic, value, json.dumps([row["player_id"]]), headers=[("id", id_)],
                        on_delivery=lambda error, _: failed.append(error) if error else None,
                    )  # fmt: skip
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
    assert producer.flush(60) == 0
    assert not failed


def timed(act: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and those of this process' processor."""
    before, began = os.times(), time.perf_counter()
    act()
    after = os.times()
    return time.perf_counter() - began, after.user + after.system - before.user - before.system


def main(rows: int, turns: int) -> None:
    with tempfile.TemporaryDirectory() as folder, kafka_server.running() as broker:
        pq.write_table(table(rows), f"{folder}/{FILE}")
        size = os.path.getsize(f"{folder}/{FILE}")
        target = Target("sink", folder, "replace", "scores/", "scores", {}, 1, "", files=(delta.Add(FILE, size, "{}"),))
        stream = {"type": "kafka", "servers": broker.servers, "topic": "", "security": {}}

        def events() -> Iterator[Event]:
            return announcing._of_rows("run", target, ["player_id"], sending.LARGEST, announcing._Cut())

        made = list(events())
        acts: dict[str, Callable[[str], Any]] = {
            "`publish_events`": lambda topic: sending.send({**stream, "topic": topic}, events()),
            "a plain loop": lambda topic: plain_loop(broker.servers, topic, folder),
            "messages made beforehand": lambda topic: sending.send({**stream, "topic": topic}, made),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in acts}
        for turn in range(turns):
            for number, (name, act) in enumerate(acts.items()):
                topic = f"t{turn}-{number}"
                broker.create(topic)
                found[name].append(timed(lambda act=act, topic=topic: act(topic)))
                broker.delete(topic)
        print("| | rows/s | CPU µs a row | times as fast as the loop |\n|---|---|---|---|")
        loop = statistics.median(seconds for seconds, _ in found["a plain loop"])
        for name, times in found.items():
            seconds, cpu = (statistics.median(each) for each in zip(*times, strict=True))
            print(f"| {name} | {rows / seconds:,.0f} | {cpu / rows * 1e6:.1f} | {loop / seconds:.1f} |")


if __name__ == "__main__":
    main(*(int(given) for given in [*sys.argv[1:], *("200000", "3")[len(sys.argv) - 1 :]]))
