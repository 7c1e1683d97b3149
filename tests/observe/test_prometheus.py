"""The figures of a job's last run as Prometheus' own parser reads them, from the file and as a gateway gets them."""

from __future__ import annotations

import base64
from pathlib import Path

import pyarrow as pa
import pytest
from prometheus_client import parser

from lakehouse.errors import Blocked, ConfigError
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.runs import ledger
from tests.conftest import score, write
from tests.observe.receiver import receiving

DAY, BAD = "2026-01-02", "2026-01-03"
FILE = Path("metrics/lakehouse_scores.prom")


def parsed(text):
    """Samples by name and labels other than the job."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            rest = tuple(v for k, v in sorted(sample.labels.items()) if k != "lakehouse_job")
            found[sample.name.removeprefix("lakehouse_"), *rest] = sample.value
    return found


@pytest.fixture
def daily(make_job, imputing, workspace):
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [0.1, 0.2, 0.3], "day": [DAY] * 3}))
    write("lake/features", pa.table({"id": pa.array([1, None], pa.int64()), "a": [0.1, 0.2], "day": [BAD] * 2}))
    (workspace / "metrics").mkdir()

    def make(day=DAY, **metrics):
        return make_job(
            imputing, date=day, source={"where": "day = '{date}'"}, slice={"score_date": "{date}"},
            metrics=metrics or {"textfile": "metrics"},
        )  # fmt: skip

    return make


def test_the_file_has_the_figures_of_the_last_run(daily):
    result = score(daily())
    seen = parsed(FILE.read_text())
    kinds = ("read", "scored", "quarantined")
    assert [seen["last_run_rows", kind] for kind in kinds] == [3, 3, 0]
    assert {stage: seen["last_run_seconds", stage] for stage in result.seconds} == dict(result.seconds)
    assert [name[1] for name, value in seen.items() if name[0] == "last_run_status" and value] == ["published"]
    assert seen["last_success_timestamp_seconds",] == seen["last_run_timestamp_seconds",] > 1.7e9
    assert score(daily()).status == "unchanged"
    again = parsed(FILE.read_text())
    assert again["last_success_timestamp_seconds",] == again["last_run_timestamp_seconds",]
    assert again["last_success_timestamp_seconds",] > seen["last_success_timestamp_seconds",]
    assert [file.name for file in FILE.parent.iterdir()] == [FILE.name]


def test_a_rollback_is_no_run_of_the_job(daily):
    score(daily())
    score(daily(), rescore=True)
    before = FILE.read_text()
    rollback(daily(), Request("local", ledger.now(), new_run_id()))
    with pytest.raises(ConfigError, match="no earlier generation"):
        rollback(daily(BAD), Request("local", ledger.now(), new_run_id()))
    assert FILE.read_text() == before


def test_a_run_that_fails_keeps_when_one_last_succeeded(daily):
    score(daily())
    before = parsed(FILE.read_text())
    with pytest.raises(Blocked):
        score(daily(BAD))
    seen = parsed(FILE.read_text())
    assert (seen["last_run_status", "blocked"], seen["last_run_status", "published"]) == (1, 0)
    assert seen["last_success_timestamp_seconds",] == before["last_success_timestamp_seconds",]
    assert seen["last_run_timestamp_seconds",] > before["last_run_timestamp_seconds",]
    assert seen["last_run_rows", "quarantined"] == 1


@pytest.mark.long
def test_drift_is_there_once_there_is_a_baseline(daily):
    score(daily())
    assert ("last_run_drift_max_psi",) not in parsed(FILE.read_text())
    score(daily(), rescore=True)
    assert parsed(FILE.read_text())["last_run_drift_max_psi",] == pytest.approx(0, abs=0.05)


def test_a_gateway_is_pushed_to(daily):
    with receiving() as gateway:
        score(daily(pushgateway=gateway.url.replace("//", "//user:s3cr3%2Ft@")))
    [(path, body)], [headers] = gateway.came, gateway.headers
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'user:s3cr3/t').decode()}"
    assert path == "/metrics/job/lakehouse/lakehouse_job/scores"
    assert parsed(body.decode())["last_run_rows", "scored"] == 3


def test_a_gateway_that_refuses_and_a_folder_that_is_not_there_cost_a_warning_each(daily):
    told = []
    with receiving() as gateway:
        gateway.answers = [500]
        job = daily(pushgateway=gateway.url, textfile="nowhere")
        result = score(job, say=lambda event, values: event == "warning" and told.append(values["message"]))
    assert result.status == "published"
    assert sorted(told) == [
        "metrics.pushgateway could not be told of the run: it answered 500",
        "metrics.textfile could not be told of the run: nowhere/lakehouse_scores.prom can't be written: No such file or "
        "directory",
    ]


def test_a_section_that_says_nothing_is_refused(make_job, imputing):
    with pytest.raises(ConfigError, match="give textfile, pushgateway or both"):
        make_job(imputing, metrics={})
