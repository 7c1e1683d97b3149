"""Addresses in a job file: what is none is refused with its key before anybody is asked, and a secret isn't repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from lakehouse.config import Job, load_job
from lakehouse.errors import ConfigError

MESSAGES = {"schema": {"id": "long"}}
KINESIS = {**MESSAGES, "type": "kinesis", "stream": "games", "region": "eu-west-1"}
PUBSUB = {**MESSAGES, "type": "pubsub", "subscription": "games"}
AVRO = {**KINESIS, "format": "avro"}
JOB = {
    "job": "games",
    "model": {"uri": "models:/games@champion"},
    "keys": ["id"],
    "sinks": [{"type": "delta", "table": "lake/scores", "write": "append"}],
}


@pytest.fixture
def load(tmp_path):
    """Load a job of these sections."""

    def load(**sections: Any) -> Job:
        path = tmp_path / "games.yaml"
        path.write_text(yaml.safe_dump({**JOB, "source": KINESIS, **sections}))
        return load_job(path, date=None, environ={})

    return load


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({**KINESIS, "endpoint": "127.0.0.1:80"}, "endpoint: '127.0.0.1:80' (text) must begin with https:// or http://: write http://127.0.0.1:80"),
        ({**KINESIS, "endpoint": "localhost"}, "endpoint: 'localhost' (text) must begin with https:// or http://: write http://localhost"),
        ({**KINESIS, "endpoint": "http://"}, "endpoint: 'http://' (text) names no host: write an address such as http://localhost:4566"),
        ({**KINESIS, "endpoint": "http://a b"}, "endpoint: 'http://a b' (text) has blanks in it: write an address such as http://localhost:4566"),
        ({**KINESIS, "endpoint": "ftp://a"}, "endpoint: 'ftp://a' (text) must begin with https:// or http://: write an address such as http://localhost:4566"),
        ({**KINESIS, "region": "eu west"}, "region: must be a region of AWS, such as eu-west-1, not 'eu west' (text)"),
        ({**PUBSUB, "endpoint": "http://127.0.0.1:abc"}, "endpoint: 'http://127.0.0.1:abc' (text) has no port (1 to 65535) after the colon: write an address such as europe-west1-pubsub.googleapis.com"),
        ({**PUBSUB, "endpoint": "a:70000"}, "endpoint: 'a:70000' (text) has no port (1 to 65535) after the colon: write an address such as europe-west1-pubsub.googleapis.com"),
        ({**PUBSUB, "endpoint": "http://a/b"}, "endpoint: 'http://a/b' (text) must end after its host and port: write an address such as europe-west1-pubsub.googleapis.com"),
        ({**AVRO, "registry": "registry:8081"}, "registry: 'registry:8081' (text) must begin with https:// or http://: write http://registry:8081"),
        ({**AVRO, "registry": "http://me:it@registry"}, "registry: the address must have no login in it: write an address such as http://registry.example.com:8081"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_its_key(load, tmp_path, source: Mapping[str, Any], said: str):
    with pytest.raises(ConfigError) as refused:
        load(source=source)
    assert str(refused.value) == f"{tmp_path}/games.yaml: source.{said}"


def test_those_of_events_are_held_to_the_same(load):
    for stream in ({"type": "kinesis", "stream": "a"}, {"type": "pubsub", "topic": "abc"}):
        with pytest.raises(ConfigError, match=r"publish_events\.0\.endpoint: 'a:b' \(text\) "):
            load(publish_events=[{**stream, "endpoint": "a:b"}])


@pytest.mark.parametrize(
    "sections",
    [
        {"notify": [{"type": "webhook", "url": "http://s3cr3t:abc"}]},
        {"metrics": {"pushgateway": "http://s3cr3t:abc"}},
    ],
)
def test_a_secret_one_is_refused_but_not_repeated(load, sections: Mapping[str, Any]):
    with pytest.raises(ConfigError, match=r"has no port \(1 to 65535\) after the colon") as refused:
        load(**sections)
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        {**KINESIS, "endpoint": "http://localstack_1:4566/"},
        {**KINESIS, "endpoint": "https://[::1]:4566"},
        {**KINESIS, "region": "us-gov-west-1"},
        {**PUBSUB, "endpoint": "europe-west1-pubsub.googleapis.com:443"},
        {**PUBSUB, "endpoint": "http://127.0.0.1:8085"},
        {**AVRO, "registry": "https://registry.example.com/apis/ccompat/v7"},
    ],
)
def test_addresses_are_taken(load, source: Mapping[str, Any]):
    assert load(source=source).source.name == "games"


def test_a_login_is_taken_where_the_address_is_a_secret(load):
    gateway = load(metrics={"pushgateway": "http://me:it@gateway:9091"}).metrics.pushgateway
    assert gateway.get_secret_value() == "http://me:it@gateway:9091"
