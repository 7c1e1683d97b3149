"""Lambda's front in this process: each kind of event answered as the handler answers the same body, batches in part."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws

from lakehouse.errors import ConfigError
from lakehouse.serving import aws_batches, aws_events
from lakehouse.serving.access import read_keys
from lakehouse.serving.aws_lambda import handler_of
from lakehouse.serving.cloud_function import beginning
from lakehouse.serving.counting import Metrics
from lakehouse.serving.limits import Limits
from lakehouse.serving.messages import ARROW
from lakehouse.serving.packaged import NO_FIGURES, Package
from tests.serving import events
from tests.serving.conftest import features
from tests.serving.test_handler import GOOD, records, stream

KEY = "correct-horse-battery-staple"
CONTEXT = SimpleNamespace(aws_request_id="c6af9ac6-7b61-11e6-9a41-93e8deadbeef")
BODY = json.dumps([GOOD, {**GOOD, "id": 2, "a": 99.0}])
POISON = '{"records": [{"id": "no number"}]}'


@pytest.fixture(scope="module")
def package(server):
    """The job as a package serves it: no published scores."""
    jobs = {name: replace(job, published=None) for name, job in server.jobs.items()}
    mine = replace(server, jobs=jobs, metrics=Metrics(NO_FIGURES))
    return Package("likes", mine, mine, None, lambda: False)


@pytest.fixture
def call(package):
    """call(event) → the result of Lambda's handler, which has no place for answers to messages."""
    return lambda event, of=package: handler_of(of, None)(event, CONTEXT)


def without_moment(body):
    """An answer less what differs between two requests."""
    said = json.loads(body)
    lineage = {name: value for name, value in said["lineage"].items() if name not in ("_run_id", "_scored_at")}
    return {**said, "request_id": "", "lineage": lineage}


@pytest.mark.parametrize("event", [events.rest, events.http, events.balancer])
def test_a_request_is_answered_as_the_handler_does(event, call, ask):
    result = call(event(BODY))
    expected = ask(BODY.encode())
    assert result["statusCode"] == expected.status == 200
    assert without_moment(result["body"]) == without_moment(expected.body)
    assert result["headers"]["Content-Type"] == "application/json"
    assert result["headers"]["X-Request-Id"] == CONTEXT.aws_request_id
    assert result["isBase64Encoded"] is False


def test_bytes_come_and_go_as_base64(call, ask):
    body = stream(features(3))
    headers = {"content-type": ARROW, "accept": ARROW}
    result = call(events.http(base64.b64encode(body).decode(), headers=headers, isBase64Encoded=True))
    assert (result["statusCode"], result["isBase64Encoded"]) == (200, True)
    assert result["headers"]["Content-Type"] == ARROW
    assert base64.b64decode(result["body"])[:4] == ask(body, ARROW, accept=ARROW).body[:4] == b"\xff\xff\xff\xff"


def test_what_is_no_base64_is_refused_in_words(call, capfd):
    result = call(events.http("%%%", isBase64Encoded=True))
    assert result["statusCode"] == 400
    assert "base64" in json.loads(result["body"])["error"]
    assert json.loads(capfd.readouterr().out)["status"] == 400


@pytest.mark.parametrize("encoded", [False, True])
def test_a_body_above_the_limit_is_refused(package, call, encoded):
    small = replace(package, server=replace(package.server, limits=Limits(body=100)))
    text = base64.b64encode(b"[" + b" " * 200 + b"]").decode() if encoded else "[" + " " * 200 + "]"
    result = call(events.rest(text, isBase64Encoded=encoded), small)
    assert result["statusCode"] == 413
    assert "100 bytes" in result["body"]


def test_a_path_is_read_whatever_it_is_mounted_below(call):
    mounted = events.rest(BODY, path="/scoring/v1/likes/score", pathParameters={"proxy": "v1/likes/score"})
    staged = events.http(BODY, path="/prod/v1/likes/score")
    staged["requestContext"]["stage"] = "prod"
    for event in (mounted, staged):
        assert call(event)["statusCode"] == 200


def test_parameters_are_read_by_their_first_values_and_decoded_where_aws_does_not(call):
    several = {"layout": ["columns", "records"]}
    rest = events.rest(BODY, queryStringParameters={"layout": "records"}, multiValueQueryStringParameters=several)
    http = events.http(BODY, rawQueryString="layout=columns&layout=records")
    balanced = events.balancer(BODY, queryStringParameters={"layou%74": "colum%6Es"})
    for event in (rest, http, balanced):
        assert isinstance(json.loads(call(event)["body"])["scores"], dict)


def test_a_load_balancer_gets_headers_in_the_form_that_it_sends_and_a_description(call):
    for several, key in ((False, "headers"), (True, "multiValueHeaders")):
        result = call(events.balancer(BODY, several=several))
        assert {"headers", "multiValueHeaders"} & set(result) == {key}
        assert result["statusDescription"] == "200 OK"
    assert result["multiValueHeaders"]["Content-Type"] == ["application/json"]


def test_who_asks_is_named_in_the_log_and_bodies_are_not(call, capfd):
    for event, client in (
        (events.rest(BODY), "52.255.255.12"),
        (events.http(BODY), "205.255.255.176"),
        (events.balancer(BODY), "72.12.164.125"),
    ):
        call(event)
        line = json.loads(capfd.readouterr().out)
        assert (line["remote"], line["status"], line["rows"], line["quarantined"]) == (client, 200, 2, 1)
        assert line["request_id"] == CONTEXT.aws_request_id


def test_a_signed_url_is_answered_and_a_parameter_that_nobody_knows_is_refused(call):
    signed = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=abc&layout=columns"
    assert isinstance(json.loads(call(events.http(BODY, rawQueryString=signed))["body"])["scores"], dict)
    refused = call(events.balancer(BODY, queryStringParameters={"layuot": "columns"}))
    assert (refused["statusCode"], "did you mean 'layout'?" in refused["body"]) == (400, True)


def test_keys_are_asked_for_over_http_and_not_of_those_whom_aws_lets_in(package, call, monkeypatch):
    monkeypatch.setenv("KEYS", f"shop={KEY}")
    keyed = replace(package, server=replace(package.server, keys=read_keys("env:KEYS")))
    assert call(events.http(BODY), keyed)["statusCode"] == 401
    assert (
        call(events.http(BODY, headers={"X-Api-Key": KEY, "Content-Type": "application/json"}), keyed)["statusCode"]
        == 200
    )
    assert call(json.loads(BODY), keyed)["status"] == 200


@pytest.mark.parametrize("event", [json.loads(BODY), {"records": json.loads(BODY)}])
def test_a_direct_invocation_is_the_body_and_its_answer_has_the_status(event, call, ask):
    result = call(event)
    assert result.pop("status") == 200
    assert without_moment(json.dumps(result)) == without_moment(ask(BODY.encode()).body)
    assert result["request_id"] == CONTEXT.aws_request_id


@pytest.mark.parametrize(
    "event", [None, 7, "text", {}, {"source": "aws.events"}, {"Records": []}, {"requestContext": {}}]
)
def test_an_event_of_another_kind_is_answered_in_words(event, call):
    result = call(event)
    assert result["status"] == 400
    assert "Traceback" not in json.dumps(result)


def test_a_defect_is_told_by_an_id_alone(package, call, monkeypatch):
    broken = replace(package, server=replace(package.server, gate=None))
    result = call(events.http(BODY), broken)
    assert result["statusCode"] == 500
    assert json.loads(result["body"]) == {
        "error": f"a defect; the log has it under the id {CONTEXT.aws_request_id}",
        "request_id": CONTEXT.aws_request_id,
    }


def test_published_scores_are_not_looked_up(call):
    result = call(events.http(None, path="/v1/likes/scores/1", method="GET"))
    assert result["statusCode"] == 404
    assert "not looked up here" in result["body"]
    ready = json.loads(call(events.http(None, path="/ready", method="GET"))["body"])
    assert "published" not in ready["jobs"]["likes"]


def test_an_answer_that_aws_would_not_let_through_is_refused(call, monkeypatch):
    monkeypatch.setattr(aws_events, "MOST_BYTES", 6_000)
    result = call(events.rest(records(features(100)).decode()))
    assert result["statusCode"] == 413
    assert "send fewer rows" in result["body"]
    assert call(json.loads(records(features(100))))["status"] == 413


def test_a_method_without_a_body_has_none(call):
    assert call(events.rest(None, path="/health", method="HEAD"))["body"] == ""
    assert call(events.rest(BODY, method="GET"))["statusCode"] == 405


def handled(package, sent, unsent=()):
    """A handler whose answers are kept in a list; those of these ids can't be sent."""

    def send(answers):
        sent.extend(one for one in answers if one[0] not in unsent)
        return [name for name, _ in answers if name in unsent]

    return lambda event: handler_of(package, send)(event, CONTEXT)["batchItemFailures"]


IDS = [f"059f36b4-87a3-44ab-83d2-66197597{number}" for number in range(5000, 5004)]
NUMBERS = [f"495903382714902566085596925383615710959215759891365886{number}" for number in range(10, 14)]


def test_of_a_queues_batch_the_messages_that_failed_come_again(package, ask):
    sent = []
    failed = handled(package, sent, IDS[3])(events.queue(dict(zip(IDS, [BODY, POISON, BODY, BODY], strict=True))))
    assert failed == [{"itemIdentifier": IDS[1]}, {"itemIdentifier": IDS[3]}]
    assert [name for name, _ in sent] == [IDS[0], IDS[2]]
    assert without_moment(sent[0][1]) == without_moment(ask(BODY.encode()).body)
    assert json.loads(sent[0][1])["request_id"] == json.loads(sent[0][1])["lineage"]["_run_id"] == IDS[0]


def test_of_a_queue_that_keeps_its_order_all_after_one_that_failed_come_again(package):
    sent = []
    bodies = dict(zip(IDS, [BODY, POISON, BODY, BODY], strict=True))
    failed = handled(package, sent)(events.queue(bodies, name="my-queue.fifo"))
    assert [one["itemIdentifier"] for one in failed] == IDS[1:]
    assert [name for name, _ in sent] == IDS[:1]


def test_of_a_stream_the_first_record_that_failed_is_named_and_nothing_behind_it_is_touched(package):
    sent = []
    bodies = dict(zip(NUMBERS, [BODY.encode(), stream(features(2)), POISON.encode(), BODY.encode()], strict=True))
    assert handled(package, sent)(events.stream(bodies)) == [{"itemIdentifier": NUMBERS[2]}]
    assert [name for name, _ in sent] == NUMBERS[:2]
    assert handled(package, sent, NUMBERS[0])(events.stream(bodies)) == [{"itemIdentifier": NUMBERS[0]}]


def test_rows_that_are_all_set_aside_are_an_answer_and_no_failure(package):
    sent = []
    assert handled(package, sent)(events.queue({IDS[0]: json.dumps([{**GOOD, "a": 99.0}])})) == []
    assert json.loads(sent[0][1])["rows"] == {"read": 1, "scored": 0, "quarantined": 1}


def test_a_message_says_its_form_by_an_attribute(package):
    sent = []
    text = "id,kind,day,a,b,c\n1,x,2026-01-02,0.5,0.5,0.5\n"
    kind = {"Content-Type": {"stringValue": "text/csv", "dataType": "String"}}
    assert handled(package, sent)(events.queue({IDS[0]: text}, **kind)) == []
    assert json.loads(sent[0][1])["rows"]["scored"] == 1


def test_messages_without_a_place_for_their_scores_come_again_and_are_told_of(call, caplog):
    failed = call(events.queue(dict.fromkeys(IDS[:2], BODY)))["batchItemFailures"]
    assert [one["itemIdentifier"] for one in failed] == IDS[:2]
    assert "package the job with --answers" in caplog.text


@pytest.fixture
def aws(monkeypatch):
    """A stand-in for AWS in this process, with credentials of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield


def test_answers_are_sent_to_a_queue(aws):
    client = boto3.client("sqs")
    url = client.create_queue(QueueName="answers.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    answers = [(f"message-{number}", b'{"n":%d}' % number) for number in range(12)]
    assert aws_batches.sender(f"sqs:{url}", "likes")(answers) == []
    got = []
    while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for one in found:
            got.append(one["Body"].encode())
            client.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    assert got == [body for _, body in answers]


def test_answers_are_sent_to_a_stream(aws):
    client = boto3.client("kinesis")
    client.create_stream(StreamName="answers", ShardCount=1)
    answers = [(f"message-{number}", b'{"n":%d}' % number) for number in range(3)]
    assert aws_batches.sender("kinesis:answers", "likes")(answers) == []
    shard = client.describe_stream(StreamName="answers")["StreamDescription"]["Shards"][0]["ShardId"]
    at = client.get_shard_iterator(StreamName="answers", ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    found = client.get_records(ShardIterator=at["ShardIterator"])["Records"]
    assert [(one["PartitionKey"], one["Data"]) for one in found] == answers


def test_answers_to_a_place_that_is_not_there_are_not_sent(aws, caplog):
    answers = [("message-1", b"{}")]
    assert aws_batches.sender("kinesis:nowhere", "likes")(answers) == ["message-1"]
    assert "could not be sent" in caplog.text


@pytest.mark.parametrize("place", ["sqs", "sqs:", "s3://bucket", "pubsub:projects/p/topics/t"])
def test_a_place_for_answers_that_is_none_is_refused(place):
    with pytest.raises(ConfigError, match="name a queue or a stream"):
        aws_batches.sender(place, "likes")


def test_parts_are_as_large_as_aws_takes_them():
    parts = []
    send = aws_batches._in_parts(lambda part: parts.append([name for name, _ in part]) or [], 3, 100)
    assert send([(str(n), b"x" * size) for n, size in enumerate([60, 30, 20, 10, 10, 10, 10, 200])]) == []
    assert parts == [["0", "1"], ["2", "3", "4"], ["5", "6"], ["7"]]


def test_a_function_that_cant_begin_ends_with_the_reason_in_its_log(caplog):
    with pytest.raises(SystemExit) as ended, beginning():
        raise ConfigError("the package's libraries are for Python 3.0")
    assert (ended.value.code, ended.value.__suppress_context__) == (1, True)
    assert "the function can't begin: the package's libraries are for Python 3.0" in caplog.text


def test_a_function_says_where_its_figures_are(package, ask):
    said = ask(path="/metrics", at=package.server)
    assert (said.status, json.loads(said.body)["error"]) == (501, NO_FIGURES)
