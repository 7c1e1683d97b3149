"""A run as a trace: its stages' spans as the SDK's own exporter in memory gets them, and over HTTP."""

from __future__ import annotations

import itertools
import platform
import sys

import pyarrow as pa
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from lakehouse.checks import timeline
from lakehouse.engines.spark import running
from lakehouse.errors import Blocked
from lakehouse.observe import opentelemetry
from tests.conftest import score, spark_settings, write
from tests.observe.receiver import receiving

DAY, BAD = "2026-01-02", "2026-01-03"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def daily(make_job, imputing):
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [0.1, 0.2, 0.3], "day": [DAY] * 3}))
    write("lake/features", pa.table({"id": pa.array([1, None], pa.int64()), "a": [0.1, 0.2], "day": [BAD] * 2}))

    def make(day=DAY, **sections):
        source, part = {"where": "day = '{date}'"}, {"score_date": "{date}"}
        return make_job(imputing, date=day, source=source, slice=part, **sections)

    return make


@pytest.fixture
def exported(monkeypatch):
    """The spans that a run exports."""
    exporter = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(opentelemetry, "_exporter", lambda: exporter)
    return lambda: {span.name: span for span in exporter.get_finished_spans()}


def test_each_stage_is_a_span_of_the_runs(daily, exported):
    result = score(daily())
    spans = exported()
    assert list(spans) == ["plan", "task", "pass", "checks", "commit", "run"]
    task, run = spans.pop("task"), spans.pop("run")
    stages = list(spans.values())
    assert {span.parent.span_id for span in stages} == {run.context.span_id}
    assert run.parent is None
    assert all(before.end_time == after.start_time for before, after in itertools.pairwise(stages))
    assert run.start_time <= stages[0].start_time < stages[-1].end_time <= run.end_time
    seen = dict(run.attributes)
    assert {name: seen[f"lakehouse.{name}"] for name in ("job", "run_id", "date", "status", "rows_scored")} == {
        "job": "scores", "run_id": result.run_id, "date": DAY, "status": "published", "rows_scored": 3,
    }  # fmt: skip
    assert seen["lakehouse.slice.score_date"] == DAY
    assert seen["lakehouse.work_seconds.model"] == result.work["model"]
    within = spans["pass"]
    assert task.parent.span_id == within.context.span_id
    assert within.start_time <= task.start_time < task.end_time <= within.end_time
    assert (task.attributes["lakehouse.task"], task.attributes["lakehouse.rows_read"]) == (0, 3)
    assert task.attributes["host.name"] == platform.node()
    assert {"reading", "checking", "model", "writing", "core"} == {
        name.rpartition(".")[2] for name in task.attributes if name.startswith("lakehouse.work_seconds.")
    }


@pytest.mark.long
@pytest.mark.parametrize("merged", [64, 2])
def test_tasks_of_executors_are_spans_of_the_pass(make_job, imputing, spark, monkeypatch, merged):
    """Four tasks, told of as they are or merged two by two by executors: none is lost, the shortest are one."""
    exporter = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(opentelemetry, "_exporter", lambda: exporter)
    monkeypatch.setattr("lakehouse.engines.spark.cores", lambda spark: 4)
    monkeypatch.setattr(running, "TOGETHER", merged)
    monkeypatch.setattr(timeline, "MOST", 2)
    for number in range(4):
        write("lake/features", pa.table({"id": [number], "a": [0.5]}))
    with spark_settings(spark, **{"spark.sql.files.openCostInBytes": str(1 << 30)}):
        score(make_job(imputing), "spark")
    spans = exporter.get_finished_spans()
    [within] = [span for span in spans if span.name == "pass"]
    tasks = [span for span in spans if span.parent is not None and span.parent.span_id == within.context.span_id]
    assert [span.name for span in tasks].count("task") == 2
    [others] = [span for span in tasks if span.name == "other tasks"]
    assert others.attributes["lakehouse.tasks"] == 2
    assert sum(span.attributes["lakehouse.rows_read"] for span in tasks) == 4


def test_a_run_that_is_blocked_is_an_error_without_its_rows(daily, exported):
    with pytest.raises(Blocked):
        score(daily(BAD))
    run = exported()["run"]
    assert run.status.status_code is StatusCode.ERROR
    assert "went to quarantine" in run.status.description
    assert "id=" not in run.status.description
    assert run.attributes["error.type"] == "Blocked"


def test_a_run_is_part_of_the_trace_that_began_it(daily, exported, monkeypatch):
    monkeypatch.setenv("TRACEPARENT", PARENT)
    score(daily())
    run = exported()["run"]
    assert f"00-{run.context.trace_id:032x}-{run.parent.span_id:016x}-01" == PARENT


@pytest.mark.long
def test_nothing_is_made_where_nobody_asked_or_it_is_turned_off(daily, exported, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    score(daily())
    assert exported() == {}


def test_it_goes_over_http_as_the_standard_variables_say(daily, monkeypatch):
    with receiving() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly")
        score(daily())
    [(path, body)] = collector.came
    sent = trace_service.ExportTraceServiceRequest.FromString(body).resource_spans[0]
    assert path == "/v1/traces"
    named = {one.key: one.value.string_value for one in sent.resource.attributes}
    assert named["service.name"] == "nightly"
    assert [span.name for span in sent.scope_spans[0].spans] == ["plan", "task", "pass", "checks", "commit", "run"]


def test_a_library_that_is_not_installed_is_named_in_a_warning(daily, monkeypatch):
    told = []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    result = score(daily(), say=lambda event, values: event == "warning" and told.append(values["message"]))
    assert result.status == "published"
    assert told == [
        "OpenTelemetry could not be told of the run: its exporter is not installed: pip install "
        "lakehouse[opentelemetry]"
    ]


@pytest.mark.long
def test_a_collector_that_hangs_costs_a_warning(daily, monkeypatch):
    told = []
    with receiving() as collector:
        collector.hangs = True
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        result = score(daily(), say=lambda event, values: event == "warning" and told.append(values["message"]))
    assert result.status == "published"
    assert [text.partition(":")[0] for text in told] == ["OpenTelemetry could not be told of the run"]
