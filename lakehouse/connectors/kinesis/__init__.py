"""Kinesis' client: the shards that a stream has now, and the records of a shard from some place on.

Nothing is registered there: how far a stream was scored, the scored table says. Login and region are those of AWS's
own tools, looked up wherever records are read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lakehouse.errors import ConfigError, Unavailable, nearest

PATIENCE = 30.0
"""Seconds for an answer, and without any record while some are known to be there."""
ATTEMPTS = 8
"""An answer is asked for so often, where a shard was read too often or too much."""
LIMIT = 10_000
"""Records of an answer, at most: more can't be asked for."""
_PAUSE = 0.2
"""Seconds before a shard is asked again that had nothing: five times a second it may be asked."""
_REFUSED = (
    "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException",
    "IncompleteSignature", "MissingAuthenticationTokenException", "KMSAccessDeniedException", "InvalidClientTokenId",
)  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """A stream, and how it is reached; `section`: where the job file says that."""

    name: str
    region: str | None = None
    endpoint: str | None = None
    section: str = "source"


@dataclass(frozen=True)
class Shard:
    """A shard of a stream: what it was split or merged from, and if it is closed the number that no record is above."""

    id: str
    parents: tuple[str, ...]
    last: int | None


@dataclass(frozen=True)
class Look:
    """A stream as it is now: its id, which another one of the name has not; how long it keeps records, in ms."""

    id: str
    retention_ms: int
    shards: Mapping[str, Shard]


@dataclass(frozen=True)
class Page:
    """Records in their order, how far behind the newest they are, in ms, and whether the shard has ended with them."""

    records: Sequence[Mapping[str, Any]]
    behind_ms: int
    ended: bool

    @property
    def caught_up(self) -> bool:
        """Whether nothing comes after them yet."""
        return self.ended or (self.behind_ms == 0 and len(self.records) < LIMIT)


def number(record: Mapping[str, Any]) -> int:
    """A record's sequence number."""
    return int(record["SequenceNumber"])


def ms_of(record: Mapping[str, Any]) -> int:
    """When a record came, in ms since 1970."""
    return int(record["ApproximateArrivalTimestamp"].timestamp() * 1000)


def connect(stream: Stream, attempts: int | None = None, patience: float | None = None) -> Any:
    """A client that asks so often, and waits so many seconds for an answer.

    Raises ConfigError where the library, a region or a login is missing.
    """
    attempts, patience = attempts or ATTEMPTS, patience or PATIENCE
    try:
        import botocore.session
        from botocore.config import Config
    except ImportError as error:
        raise ConfigError(
            f"{stream.section}.type: kinesis needs boto3: pip install lakehouse[kinesis] ({error})"
        ) from error
    config = Config(
        retries={"mode": "standard", "max_attempts": attempts}, connect_timeout=patience, read_timeout=patience
    )
    with explained(stream, "connecting"):
        session = botocore.session.get_session()  # a new one each time: logins change while a process lives
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        return session.create_client("kinesis", region_name=stream.region, endpoint_url=stream.endpoint, config=config)


@lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Any:
    """What reads the library's descriptions of services, which takes long, and keeps them while the process lives."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


@contextmanager
def explained(stream: Stream, doing: str) -> Iterator[None]:
    """Raise what the library raises as an error that says which stream, and what was said."""
    from botocore import exceptions as failures

    where = f"{stream.name} ({stream.endpoint or stream.region or 'Kinesis'}): {doing}"
    try:
        yield
    except failures.ClientError as failed:
        code = failed.response.get("Error", {}).get("Code", "")
        if code in _REFUSED:
            raise ConfigError(f"{where}: {failed}; see the login of AWS's own tools, and its rights") from failed
        raise Unavailable(f"{where}: {failed}") from failed
    except (failures.NoRegionError, failures.NoCredentialsError, failures.PartialCredentialsError) as failed:
        raise ConfigError(
            f"{where}: {failed}; see {stream.section}.region, and the login of AWS's own tools"
        ) from failed
    except (failures.ProfileNotFound, failures.InvalidRegionError) as failed:
        raise ConfigError(f"{where}: {failed}") from failed
    except failures.BotoCoreError as failed:
        raise Unavailable(f"{where}: {failed}") from failed


def look(client: Any, stream: Stream) -> Look:
    """The stream as it is now.

    Raises ConfigError where there is no such stream or it may not be read, Unavailable where nobody answers.
    """
    said = summary(client, stream)
    with explained(stream, "looking for its shards"):
        found = {shard.id: shard for shard in _shards(client, stream)}
    return Look(_id(said), said["RetentionPeriodHours"] * 3_600_000, found)


def summary(client: Any, stream: Stream) -> Mapping[str, Any]:
    """What the service says of the stream; raises as `look`."""
    with explained(stream, "looking for it"):
        try:
            found: Mapping[str, Any] = client.describe_stream_summary(StreamName=stream.name)
        except client.exceptions.ResourceNotFoundException:
            where, near = f"{client.meta.region_name} ({client.meta.endpoint_url})", _near(client, stream.name)
            raise ConfigError(f"{stream.section}.stream: there is no stream {stream.name!r} in {where}{near}") from None
    told: Mapping[str, Any] = found["StreamDescriptionSummary"]
    return told


def _near(client: Any, name: str) -> str:
    """What a person may have meant, where the login may list what there is."""
    try:
        return f", {nearest(name, client.list_streams()['StreamNames'])}"
    except client.exceptions.ClientError:
        return ""


def _shards(client: Any, stream: Stream) -> Iterator[Shard]:
    asked = {"StreamName": stream.name}
    while asked:
        said = client.list_shards(**asked)
        yield from map(_shard, said["Shards"])
        # with a token no name may be given, which the library's own pages do
        asked = {"NextToken": said["NextToken"]} if said.get("NextToken") else {}


def _id(said: Mapping[str, Any]) -> str:
    """A stream has no id of its own that an earlier one of the name had not, but when it was made."""
    return str(int(said["StreamCreationTimestamp"].timestamp() * 1000))


def _shard(said: Mapping[str, Any]) -> Shard:
    parents = tuple(said[key] for key in ("ParentShardId", "AdjacentParentShardId") if said.get(key))
    last = said["SequenceNumberRange"].get("EndingSequenceNumber")
    return Shard(said["ShardId"], parents, None if last is None else int(last))


def pages(client: Any, stream: Stream, shard: str, **where: Any) -> Iterator[Page]:
    """What a shard has from some place on, for ever, or until it has ended."""
    with explained(stream, f"reading {shard}"):
        place, iterator = where, _iterator(client, stream, shard, where)
        while iterator:
            try:
                said = client.get_records(ShardIterator=iterator, Limit=LIMIT)
            except client.exceptions.ExpiredIteratorException:  # it is good for five minutes; models may take longer
                iterator = _iterator(client, stream, shard, place)
                continue
            records, iterator = said["Records"], said.get("NextShardIterator")
            if records:
                place = after(number(records[-1]))
            yield Page(records, said.get("MillisBehindLatest", 0), not iterator)
            if not records:
                time.sleep(_PAUSE)


def _iterator(client: Any, stream: Stream, shard: str, where: Mapping[str, Any]) -> str:
    return str(client.get_shard_iterator(StreamName=stream.name, ShardId=shard, **where)["ShardIterator"])


def oldest() -> dict[str, Any]:
    """Where the records begin that are kept."""
    return {"ShardIteratorType": "TRIM_HORIZON"}


def at(sequence: int) -> dict[str, Any]:
    """Where the record with this number is."""
    return {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": str(sequence)}


def after(sequence: int) -> dict[str, Any]:
    """The place after the record with this number."""
    return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(sequence)}


def since(ms: int) -> dict[str, Any]:
    """Where the records begin that came at this time (ms since 1970) or later."""
    return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": ms / 1000}
