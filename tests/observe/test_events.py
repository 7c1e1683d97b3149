"""What is told of how a run ended, and how those are waited for who are told: without a run."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lakehouse.cli.stopping import Terminated
from lakehouse.errors import Blocked, ConfigError, LakehouseError, ModelRefused, NotReady, Unavailable
from lakehouse.observe import notify, openlineage, opentelemetry, prometheus, slack, watching
from lakehouse.observe.events import DISCARD, PUBLISH, ROLLBACK, SCORE, Ended, Run, Started, Untold
from lakehouse.pipeline import Request, Result
from lakehouse.runs import ledger
from tests.observe.receiver import receiving

DAY, RUN, OTHER = "2026-01-02", "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def job(make_job):
    return make_job("models:/none@champion", date=DAY, slice={"score_date": "{date}"}, metrics={"textfile": "metrics"})


def ended(status, error=None, psi=(), **more):
    facts = {"drift": {"drifted": sum(p > 0.2 for p in psi), "figures": {"psi": [*psi, None]}}} if psi else {}
    return Ended(ledger.now(), RUN, status, more.pop("result", None), error, lambda: facts, **more)


@pytest.mark.parametrize(("command", "event", "told"), [
    (SCORE, ended("published"), ["published"]),
    (SCORE, ended("published", psi=(0.1, 0.7)), ["published", "drifted"]),
    (SCORE, ended("held", psi=(0.3,)), ["held", "drifted"]),
    (PUBLISH, ended("published", psi=(0.3,)), ["published"]),  # drift was told when it was held
    (SCORE, ended("blocked", Blocked("no"), psi=(0.3,)), ["blocked", "drifted"]),
    (SCORE, ended("unchanged"), []),
    (SCORE, ended("not_ready", NotReady("no")), []),
    (SCORE, ended("partial", Unavailable("no")), ["failed"]),
    (SCORE, ended("stopped", KeyboardInterrupt()), []),
    (SCORE, ended("stopped", Terminated()), ["failed"]),
    (ROLLBACK, ended("rolled_back"), ["rolled_back"]),
    (ROLLBACK, ended("failed", ConfigError("no")), []),
    (ROLLBACK, ended("published", earlier=True), ["published"]),
    (DISCARD, ended("discarded"), ["discarded"]),
])  # fmt: skip
def test_what_is_told_of_a_run_that_ended_so(job, command, event, told):
    assert notify.outcomes(event, Run(job, RUN, "local", command)) == told


@pytest.mark.parametrize(("event", "message", "code"), [
    (ended("failed", LakehouseError("id=7 is wrong")), "LakehouseError (exit 1): the run's log says why", 1),
    (ended("failed", ModelRefused("id=7 is wrong")), "the model was refused: the run's log says why", 4),
    (ended("failed", ModelRefused("no such flavour"), early=True), "no such flavour", 4),
    (ended("failed", ZeroDivisionError("id=7")), "ZeroDivisionError", 1),
    (ended("failed", ConfigError("no such table")), "no such table", 2),
    (ended("failed", Unavailable("it is away")), "it is away", 5),
    (ended("stopped", KeyboardInterrupt("id=7")), "KeyboardInterrupt", 130),
    (ended("published"), "", 0),
])  # fmt: skip
def test_a_message_quotes_no_value_of_a_row(event, message, code):
    assert (event.message, event.code) == (message, code)


def test_drift_is_told_by_how_many_columns_and_the_furthest():
    assert ended("published", psi=(0.1, 0.7, 0.3)).drift == {"columns": 2, "psi": 0.7}
    assert ended("published").drift == {}


def test_of_another_dates_run_no_slice_is_told(job):
    run = Run(job, OTHER, "local")
    assert notify.message_of("published", ended("published"), run).slice == {"score_date": DAY}
    assert notify.message_of("published", ended("published", earlier=True), run).slice == {}


def test_a_receiver_gets_what_it_has_asked_for(make_job):
    with receiving() as server:
        told = [{"type": "webhook", "url": server.url, "on": ["blocked"]}]
        run = Run(make_job("models:/none@champion", notify=told), RUN, "local")
        [begin] = notify.observers(run).values()
        hear = begin()
        hear(ended("published"))
        assert server.came == []
        hear(ended("blocked", Blocked("no")))
    assert len(server.came) == 1


@pytest.mark.parametrize(("answers", "times", "said"), [
    ([429], 2, ""), ([503], 2, ""), ([500, 500], 2, "it answered 500"), ([404], 1, "it answered 404"), ([301], 1, "it answered 301"),
])  # fmt: skip
def test_a_message_is_sent_again_where_it_was_surely_not_taken(monkeypatch, answers, times, said):
    monkeypatch.setattr(notify, "_PAUSE_S", 0.0)
    with receiving() as server:
        server.answers = list(answers)
        with pytest.raises(Untold, match=said) if said else nullcontext():
            notify.post(server.url, b"{}")
    assert len(server.came) == times


def test_slack_sees_no_markup_in_a_message_and_no_text_that_is_too_long(job):
    event = ended("failed", ConfigError("<!channel> a & b" + "x" * 5_000))
    said = slack.payload(notify.message_of("failed", event, Run(job, RUN, "local")))
    text = said["blocks"][0]["text"]["text"]
    assert "&lt;!channel&gt; a &amp; b" in text
    assert len(text) < 3_000


def test_a_gateway_that_hangs_is_not_waited_for(make_job, monkeypatch):
    monkeypatch.setattr(prometheus, "_ANSWER_S", 2.0)
    with receiving() as gateway:
        gateway.hangs = True
        run = Run(make_job("models:/none@champion", metrics={"pushgateway": gateway.url}), RUN, "local")
        [begin] = prometheus.observers(run).values()
        began = time.monotonic()
        with pytest.raises(Untold, match=r"it can't be reached \(TimeoutError\)"):
            begin()(ended("published"))
        assert time.monotonic() - began < 25  # the library's own time-out is 30 s
    assert len(gateway.came) == 1


@pytest.mark.parametrize(
    ("event", "kind", "name"),
    [
        (Started(ledger.now()), "START", "scores"),
        (ended("stopped", KeyboardInterrupt()), "ABORT", "scores"),
        (ended("partial", Unavailable("no")), "FAIL", "scores"),
        (ended("rolled_back", earlier=True), "COMPLETE", "scores.rollback"),
    ],
)
def test_lineage_says_how_it_ended(job, event, kind, name):
    said = openlineage.lineage(Run(job, RUN, "local"), event, openlineage._Known())
    assert (said.eventType.value, said.job.name, said.inputs) == (kind, name, [])


def test_lineage_of_an_earlier_run_has_nothing_of_this_ones_input(job):
    known = openlineage._Known(plan=SimpleNamespace())  # of which nothing may be asked
    said = openlineage.lineage(Run(job, RUN, "local"), ended("published", earlier=True), known)
    assert (said.inputs, list(said.run.facets)) == ([], [])


@pytest.mark.parametrize(("severity", "told"), [("critical", "error"), ("warning", "warn"), ("info", "warn")])
def test_a_rule_is_told_by_its_severity_and_its_rows(severity, told):
    rule = {"type": "expect_x", "name": "x", "success": False, "column": "a", "suite": "scores", "severity": severity,
            "unexpected": 2, "evaluated": 40}  # fmt: skip
    said = openlineage._assertion(rule)
    assert (said.severity, said.actual, said.column, said.success) == (told, "2 of 40 rows break it", None, False)


def test_traces_go_where_the_standard_variables_say(job, monkeypatch):
    run = Run(job, RUN, "local")
    assert opentelemetry.observers(run) == {}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9")
    assert list(opentelemetry.observers(run)) == ["OpenTelemetry"]
    kept = "opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter"
    monkeypatch.setattr(kept, lambda **given: given)
    assert opentelemetry._exporter() == {"timeout": 3}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "7")
    assert opentelemetry._exporter() == {"timeout": None}  # theirs
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert opentelemetry.observers(run) == {}


def test_a_trace_that_is_not_taken_is_told(job, monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(exporter, "export", lambda spans: SpanExportResult.FAILURE)
    hear = opentelemetry.traced(Run(job, RUN, "local"), exporter)
    hear(Started(ledger.now()))
    with pytest.raises(Untold, match="did not take the trace"):
        hear(ended("published"))


# Waiting


def observer(hear):
    """A module that tells of runs, to two."""
    return SimpleNamespace(NAME="theirs", observers=lambda run: {name: lambda: hear for name in ("one", "two")})


@pytest.fixture
def told(job, monkeypatch):
    """told(module, …) → what a run warns of that ends at once."""

    def run(*modules, act=lambda watched: None):
        warned = []
        monkeypatch.setattr(watching, "modules", lambda: modules)
        request = Request("local", ledger.now(), RUN, say=lambda event, values: warned.append(values["message"]))
        with watching.watch(job, request) as watched:
            act(watched)
        return warned

    return run


def test_a_module_that_fails_is_named_and_the_others_hear(told):
    heard = []
    broken = SimpleNamespace(NAME="broken", observers=lambda run: 1 / 0)
    assert told(broken, observer(heard.append)) == ["broken could not be told of the run: ZeroDivisionError"]
    assert [type(event) for event in heard] == [Started, Started]


def test_of_an_error_that_is_not_known_only_the_kind_is_said(told):
    def refuse(event):
        raise ValueError("https://example.com/s3cr3t")

    assert told(observer(refuse)) == [f"{name} could not be told of the run: ValueError" for name in ("one", "two")]
    assert watching._resting == {}  # it kept nobody waiting
    assert len(told(observer(refuse))) == 2


def test_all_are_waited_for_until_the_same_moment(told, monkeypatch):
    until = []
    monkeypatch.setattr(watching._Listener, "end", lambda self, moment: until.append(moment) or "")
    told(observer(lambda event: None), observer(lambda event: None))
    assert (len(until), len(set(until))) == (4, 1)


def test_a_run_that_finished_another_one_has_no_result_of_its_own(told):
    heard = []
    done = Result("published", OTHER, "scores", DAY, rows_scored=40)
    told(observer(heard.append), act=lambda watched: watched.ended(done))
    last = heard[-1]
    assert (last.run_id, last.status, last.result, last.rows) == (RUN, "unchanged", None, {})


def test_a_run_that_is_stopped_is_told_as_stopped(told):
    heard = []

    def stop(watched):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        told(observer(heard.append), act=stop)
    assert (heard[-1].status, heard[-1].code) == ("stopped", 130)
