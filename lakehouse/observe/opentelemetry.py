"""OpenTelemetry: a run as a trace, with a span for each of its stages, told by the standard variables where to go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse.observe.events import Ended, Event, Observe, Passed, Planned, Run, StageEnded, Started, Untold

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

NAME = "OpenTelemetry"
SPANS = {"plan": "plan", "score": "pass", "checks": "checks", "publish": "commit"}
"""The spans of a run's stages."""
_PASS = "score"
"""The stage that tasks are at work in."""
_ANSWER_S = 3
_NAMED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def observers(run: Run) -> dict[str, Callable[[], Observe]]:
    """The exporter, where an endpoint is named and nothing turns traces off."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    other = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("otlp", "")
    if off or other or not any(os.environ.get(name) for name in _NAMED):
        return {}
    return {NAME: lambda: traced(run, _exporter())}


def _exporter() -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise Untold("its exporter is not installed: pip install lakehouse[opentelemetry]") from error
    named = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    theirs = any(map(os.environ.get, named))
    made: SpanExporter = OTLPSpanExporter(timeout=None if theirs else _ANSWER_S)
    return made


@dataclass
class _Trace:
    """A run's spans, which are exported together once it has ended. Times are ns since 1970."""

    run: Run
    tracer: Tracer
    exporter: SpanExporter
    root: Span | None = None
    tasks: Sequence[Mapping[str, Any]] = ()


def traced(run: Run, exporter: SpanExporter) -> Observe:
    """What makes spans of a run's events. Nothing of it is the process's own tracing."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    named = os.environ.get("OTEL_SERVICE_NAME") or "lakehouse"
    provider = TracerProvider(resource=Resource.create({"service.name": named}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace = _Trace(run, provider.get_tracer("lakehouse"), exporter)

    def hear(event: Event) -> None:
        _hear(trace, event)
        if isinstance(event, Ended) and not event.earlier:
            _export(exporter, kept.get_finished_spans())

    return hear


def _hear(trace: _Trace, event: Event) -> None:
    from opentelemetry.trace import StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if isinstance(event, Started):
        carried = {name.lower(): os.environ[name] for name in ("TRACEPARENT", "TRACESTATE") if name in os.environ}
        above = TraceContextTextMapPropagator().extract(carried)
        trace.root = trace.tracer.start_span("run", above, start_time=_ns(event.at), attributes=_named(trace.run))
    assert trace.root is not None  # a run starts first
    if isinstance(event, Planned):
        trace.root.set_attributes(_planned(event))
    if isinstance(event, Passed):
        trace.tasks = event.tasks
    if isinstance(event, StageEnded) and event.name in SPANS:
        within = set_span_in_context(trace.root)
        span = trace.tracer.start_span(SPANS[event.name], within, start_time=_ns(event.began))
        for task in trace.tasks if event.name == _PASS else ():
            _add_task(trace, task, set_span_in_context(span))
        span.end(_ns(event.at))
    if isinstance(event, Ended) and not event.earlier:
        trace.root.set_attributes(dict(_ended(event)))
        if event.error is not None:
            trace.root.set_status(StatusCode.ERROR, event.message or event.status)
            trace.root.set_attribute("error.type", type(event.error).__name__)
        trace.root.end(_ns(event.at))


def _add_task(trace: _Trace, task: Mapping[str, Any], within: Context) -> None:
    """The span of a task, or of the shortest ones together where there are many: by the clock of its machine."""
    named = {"lakehouse.task": task["task"]} if task["tasks"] == 1 else {"lakehouse.tasks": task["tasks"]}
    of_host = {"host.name": task["host"]} if task["host"] else {}
    spent = {f"lakehouse.work_seconds.{name}": seconds for name, seconds in task["work"].items()}
    said = {**named, **of_host, "lakehouse.rows_read": task["rows"], **spent}
    name, began, ended = ("task" if task["tasks"] == 1 else "other tasks", task["began"], task["ended"])
    trace.tracer.start_span(name, within, start_time=int(began * 1e9), attributes=said).end(int(ended * 1e9))


def _export(exporter: SpanExporter, spans: Any) -> None:
    from opentelemetry.sdk.trace.export import SpanExportResult

    sent = exporter.export(spans)
    exporter.shutdown()
    if sent is not SpanExportResult.SUCCESS:
        raise Untold("its endpoint did not take the trace")


def _named(run: Run) -> dict[str, Any]:
    values = {f"lakehouse.slice.{name}": str(value) for name, value in run.job.slice.items()}
    date = {"lakehouse.date": run.job.date} if run.job.date else {}
    known = {"job": run.job.job, "command": run.command, "run_id": run.run_id, "engine": run.engine}
    return {**{f"lakehouse.{name}": value for name, value in known.items()}, **date, **values}


def _planned(event: Planned) -> dict[str, Any]:
    plan = event.plan
    return {
        "lakehouse.carrier": plan.carrier,
        "lakehouse.model": plan.model.name,
        "lakehouse.model_version": str(plan.model.version),
        "lakehouse.input": plan.pinned.name,
        "lakehouse.input_version": str(plan.pinned.version),
    }


def _ended(event: Ended) -> Iterator[tuple[str, Any]]:
    yield "lakehouse.status", event.status
    if event.result is not None:
        for kind in ("read", "scored", "quarantined"):
            yield f"lakehouse.rows_{kind}", getattr(event.result, f"rows_{kind}")
        work: Mapping[str, float] = event.result.work or {}
        for name, seconds in work.items():  # of all workers together
            yield f"lakehouse.work_seconds.{name}", seconds


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1e9)
