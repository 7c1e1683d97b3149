"""Events of runs to a stream of Kinesis: what it refuses is sent again, those of a key stay in their order."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from botocore.client import BaseClient

from lakehouse.config import Job
from lakehouse.connectors.kinesis import sending
from lakehouse.connectors.messages import Event
from lakehouse.errors import ConfigError
from tests.conftest import read, score, version, write
from tests.kinesis_service import LOGIN, REGION, Service
from tests.runs.test_announcing import wide
from tests.runs.test_exactly_once import unfinished

ROWS = 5


@pytest.fixture
def stream(kinesis: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stream of this test's own, of one shard."""
    name = f"scored-{uuid.uuid4().hex[:8]}"
    kinesis.create(name)
    for variable, value in LOGIN.items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.fixture
def target(kinesis: Service, stream: str) -> dict[str, Any]:
    """The stream as the section of a job names it."""
    return {"type": "kinesis", "stream": stream, "region": REGION, "endpoint": kinesis.address}


@pytest.fixture
def job(make_job, imputing, target) -> Callable[..., Job]:
    """job(stream keys): a job over five rows that tells a stream of them."""
    write("lake/features", pa.table({"id": range(ROWS), "a": [0.5, 1.0, None, 2.0, 2.5]}))

    def make(**keys: Any) -> Job:
        return make_job(imputing, publish_events=[{**target, "rows": True, **keys}])

    return make


def test_each_row_and_then_the_run_become_records_also_where_some_are_refused_at_first(kinesis, stream, job):
    kinesis.refuse(stream, [1, 3], [0])
    result = score(job())
    *rows, (key, run) = kinesis.received(stream)
    told = {key: json.loads(value) for key, value in rows}
    assert [key for key, _ in rows] == ["[0]", "[2]", "[4]", "[3]", "[1]"]
    assert {key: one["id"] for key, one in told.items()} == {
        f"[{n}]": f"{result.run_id}/row/0/{n}" for n in range(ROWS)
    }
    table = read("lake/scores").sort_by("id").to_pylist()
    assert [told[f"[{row['id']}]"]["row"] for row in table] == [
        {**row, "_scored_at": row["_scored_at"].isoformat()} for row in table
    ]
    assert (key, json.loads(run)["id"]) == ("scores", f"{result.run_id}/run")
    assert unfinished(job()) == 0


def test_records_of_a_key_stay_in_their_order_and_those_too_many_for_a_request_take_several(kinesis, stream, target):
    values = [b"%d" % n for n in range(4)]
    kinesis.refuse(stream, [0], [0])
    sending.send(target, [Event("", b"k", value) for value in values])
    assert kinesis.received(stream) == [("k", value) for value in values]
    many = [Event("", b"%d" % n, b"") for n in range(1_001)]
    large = [Event("", b"x" * 300 + b"%d" % n, bytes(1_000_000)) for n in range(6)]
    sending.send(target, [*many, *large])
    later = kinesis.received(stream)[len(values) :]
    assert [len(data) for _, data in later] == [*([0] * 1_001), *([1_000_000] * 6)]
    assert len({key for key, _ in later}) == 1_007


def test_what_a_stream_does_not_take_the_next_run_sends(kinesis, stream, job, monkeypatch):
    monkeypatch.setattr(sending, "PATIENCE", 0.0)
    kinesis.refuse(stream, range(ROWS))
    told: list[str] = []
    first = score(job(), say=lambda event, values: told.append(str(values.get("message"))))
    assert (first.status, unfinished(job()), kinesis.received(stream)) == ("published", 1, [])
    assert any("no event is taken: ProvisionedThroughputExceeded" in text for text in told)
    assert (score(job()).status, len(kinesis.received(stream))) == ("unchanged", ROWS + 1)


def test_a_stream_that_is_not_there_or_a_library_that_is_missing_is_told_before_a_row_is_scored(job, monkeypatch):
    with pytest.raises(ConfigError, match=r"publish_events\.stream: there is no stream 'nowhere'"):
        score(job(stream="nowhere"))
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(ConfigError, match=r"publish_events\.type: kinesis needs boto3"):
        score(job())
    assert (version("lake/scores"), unfinished(job())) == (-1, 0)


def test_a_login_that_may_not_look_at_a_stream_may_write_to_it(kinesis, stream, job, monkeypatch):
    call = BaseClient._make_api_call

    def without_rights(self: Any, name: str, asked: Any) -> Any:
        if name == "DescribeStreamSummary":
            said = {"Error": {"Code": "AccessDeniedException", "Message": "no right to it"}}
            raise self.exceptions.AccessDeniedException(said, name)
        return call(self, name, asked)

    monkeypatch.setattr(BaseClient, "_make_api_call", without_rights)
    assert score(job()).status == "published"
    assert len(kinesis.received(stream)) == ROWS + 1


@pytest.mark.long
@pytest.mark.parametrize("more", [-600, 0])
def test_events_up_to_what_a_stream_takes_are_whole_and_larger_ones_have_keys(
    kinesis, stream, target, make_job, imputing, more
):
    size = sending.LARGEST + more
    assert score(wide(make_job, imputing, target, size)).status == "published"
    told = [json.loads(data) for _, data in kinesis.received(stream)]
    assert [len(one["row"].get("text", "")) for one in told if one["event"] == "row"] == [5, size if more else 0]
