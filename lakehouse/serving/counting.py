"""Prometheus' figures of a server, all its workers together, where its library is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakehouse.serving.messages import Refusal

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which the library knows where the workers of one server count together."""
_ABSENT = "the library of these figures is not installed: pip install lakehouse[serve]"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counts requests and rows; nothing until `start` has found the library."""

    def __init__(self, absent: str = _ABSENT) -> None:
        """`absent`: what is said to whoever asks for figures where there are none."""
        self._absent = absent
        self._requests: Counter | None = None
        self._rows: Counter | None = None
        self._seconds: Histogram | None = None
        self._registry: Any = None

    def start(self, *, together: bool) -> Metrics:
        """Count from now on, where the library is there. `together`: with other workers, by the folder of FOLDER."""
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
            from prometheus_client.multiprocess import MultiProcessCollector
        except ImportError:
            return self
        counting = CollectorRegistry()
        self._registry = CollectorRegistry() if together else counting
        if together:
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]  # the library's own lack
        name = "lakehouse_serving_"
        of = ["lakehouse_job", "route"]
        self._requests = Counter(f"{name}requests", "Requests answered", [*of, "status"], registry=counting)
        self._rows = Counter(f"{name}rows", "Rows of requests", ["lakehouse_job", "kind"], registry=counting)
        told = "Seconds from a request that is read to its answer"
        self._seconds = Histogram(f"{name}seconds", told, of, buckets=_BUCKETS, registry=counting)
        return self

    def count(self, facts: Mapping[str, Any], status: int) -> None:
        """Count a request that was answered."""
        if self._requests is None or self._rows is None or self._seconds is None:
            return
        of = (facts.get("job", ""), facts["route"])
        self._requests.labels(*of, str(status)).inc()
        self._seconds.labels(*of).observe(facts["seconds"])
        if rows := facts.get("rows"):
            aside = facts["quarantined"]
            self._rows.labels(of[0], "scored").inc(rows - aside)
            if aside:
                self._rows.labels(of[0], "quarantined").inc(aside)

    def expose(self) -> tuple[bytes, str]:
        """The figures as text, and its media type. Raises Refusal (501) where there are none."""
        if self._registry is None:
            raise Refusal(501, self._absent)
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST


def worker_ended(process: int) -> None:
    """Tell the library that a worker has ended, whose gauges it need not show any more."""
    try:
        from prometheus_client import multiprocess
    except ImportError:
        return
    multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]  # the library's own lack
