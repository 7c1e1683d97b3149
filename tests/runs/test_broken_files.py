"""Files of the state folder that were damaged: the error names the file, what is wrong with it and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.errors import ConfigError
from lakehouse.planning import naming
from lakehouse.planning.naming import identity_of
from lakehouse.runs import evidence, held, lease, ledger
from lakehouse.sinks.target import uri_of
from lakehouse.storage import locate
from tests.conftest import read, score, write
from tests.operations.conftest import registered

RUN = "00000000-0000-4000-8000-000000000001"
DAY, OTHER = "2026-01-01", "2026-01-02"
BROKEN = [
    ('{"run_id": "x', "Unterminated string"),
    ("", "Expecting value"),
    ("[]", "it is no JSON object"),
    ('{"format": 1}', "it has no '"),
]


@pytest.fixture(scope="module")
def models(register):
    return registered(register, 1, 2)


@pytest.fixture
def daily(make_job):
    def make(uri, day=DAY):
        return make_job(uri, date=day, slice={"score_date": "{date}"}, predictions={"p": 0})

    write("lake/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}))
    return make


@pytest.mark.parametrize(("text", "said"), BROKEN)
@pytest.mark.parametrize("kind", ["an intent", "a held run", "a lease"])
def test_a_broken_file_is_named_with_what_to_do(tmp_path, text, said, kind):
    state, table = locate(str(tmp_path / "state")), locate(str(tmp_path / "scores"))
    file, look = {
        "an intent": (tmp_path / "state/intents/abc" / f"{RUN}.json", lambda: ledger.intents(state)),
        "a held run": (tmp_path / "state/held" / f"{RUN}.json", lambda: held.runs_that_wait(state)),
        "a lease": (tmp_path / "scores" / f"run-{RUN}" / lease.NAME, lambda: lease.read(table, RUN)),
    }[kind]
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        look()
    message = str(caught.value)
    assert message.startswith(f"{file}, {kind}, can't be read ({said}"), message
    assert "move it away" in message


def test_a_broken_report_is_named(daily, models):
    job = daily(models[0])
    done = score(job)
    file = Path(f"{naming.state_of(job).path}/reports/{done.run_id}.json")
    file.write_text("{")
    with pytest.raises(ConfigError, match=rf"reports/{done.run_id}.json, facts, can't be read \(Expecting property"):
        evidence.kept_facts(naming.state_of(job), done.run_id)


def test_a_broken_intent_stops_its_own_slice_and_no_other(daily, models):
    job = daily(models[0])
    score(job)
    state = naming.state_of(job)
    folder = Path(ledger._intents(state, identity_of(job), uri_of(job.sinks[0])).path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{RUN}.json").write_text(json.dumps({"format": 1, "run_id": RUN}))
    assert score(daily(models[0], OTHER)).status == "published"
    with pytest.raises(ConfigError, match=rf"{RUN}.json, an intent, can't be read \(it has no 'targets'\): restore it"):
        score(daily(models[0]))
    (folder / f"{RUN}.json").unlink()
    assert score(daily(models[0])).status == "unchanged"
    assert len(read("lake/scores")) == 4


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "is gone"),
        (lambda file: file.write_bytes(file.read_bytes()[:-20]), r"is no whole Parquet file \("),
        (lambda file: file.write_bytes(b""), r"is no whole Parquet file \("),
    ],
)
def test_a_lost_or_cut_file_of_the_ledger_is_named(daily, models, damage, said):
    job = daily(models[0])
    score(job)
    state = naming.state_of(job)
    (file,) = Path(f"{state.path}/runs").rglob("*.parquet")
    damage(file)
    with pytest.raises(ConfigError, match=rf"{file.name}, a file of the table .*runs, {said}.*`lakehouse reconcile`"):
        ledger.runs(state, job.job)
