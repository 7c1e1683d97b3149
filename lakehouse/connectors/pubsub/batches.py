"""A batch: what a run has pulled, put down as lots, and what becomes of it at the run's end."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lakehouse import formats
from lakehouse.connectors import messages, pubsub
from lakehouse.connectors.messages import LOT_BYTES, home_of
from lakehouse.connectors.pubsub import DELETED, Place, Subscription, published, spool
from lakehouse.connectors.pubsub.leases import Leases
from lakehouse.connectors.pubsub.spool import DATA, ID, KEY, SCHEMA, TIME, Spooled
from lakehouse.errors import ConfigError, LakehouseError, Unavailable
from lakehouse.storage import Location, content, display_name, write_durably

_DAY_NS = 86_400_000_000_000
_LEAST_NS = 7 * _DAY_NS
"""So long ids are kept at least: a snapshot can bring messages back for a week."""
_LOT_ROWS = 65_536
_EMPTIED = "emptied.json"
_OFTEN_NS = 600_000_000_000
"""What that file says is renewed so often at most."""
_RANDOM_BITS = 20
"""So many bits of a batch's number are random, or two runs of one moment could have the same."""


@dataclass(frozen=True)
class Asked:
    """What is pulled for a job: at most so many messages, until none comes for so long.

    `accept_loss`: go on where messages may be lost or published twice.
    """

    job: str
    state: Location
    place: Place
    name: str
    most: int
    quiet_s: float
    accept_loss: bool


@dataclass
class Batch:
    """Messages that are pulled, in lots of so many. `since`: the number of the batch that was published before, or 0.

    `declared`: it may be published from now on, be it by another process. `emptied_ns`: when the subscription had
    nothing else, in ns since 1970; 0 where it may have more.
    """

    number: int
    since: int
    subscription: Subscription
    home: Location
    held: Leases
    lots: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    declared: bool = False
    emptied_ns: int = 0

    @property
    def spooled(self) -> Spooled:
        """Where it is put down."""
        return Spooled(self.home.join("batches"), self.since, self.number)

    def settle(self) -> None:
        """Remember and acknowledge what was published, of which no more is needed here.

        Raises Unavailable or ConfigError where Pub/Sub doesn't hear it: it comes again, and is known then.
        """
        if self.lots:
            _remember(self.home, self.spooled, self.subscription)
            spool.clear(self.spooled)
            self.lots = []
        self.held.acknowledge()
        known = _emptied(self.home)
        at_ns = self.emptied_ns or (0 if known else self.number)  # which is about when the first run began
        if at_ns > known + _OFTEN_NS:
            said = formats.with_version(formats.MESSAGES, {"at": at_ns})
            write_durably(self.home.join(_EMPTIED), json.dumps(said).encode())

    def end(self) -> None:
        """Give back what isn't settled, and take away what can't be published any more."""
        self.held.give_back()
        self.held.client.close()
        if self.lots and not self.declared:
            with suppress(LakehouseError, OSError):  # a later run takes it away
                spool.clear(self.spooled)


def _emptied(home: Location) -> int:
    """When a run last found no more messages, or else the first one began, in ns since 1970; 0 before that one."""
    place = home.join(_EMPTIED)
    text = content(place, no_folder=True)
    if text is None:
        return 0
    return formats.parse(formats.MESSAGES, text, display_name(place), lambda said: int(said["at"]))


def _remember(home: Location, batch: Spooled, subscription: Subscription) -> None:
    published.remember(home.join("published"), batch, time.time_ns() - _kept_ns(subscription))


def _kept_ns(subscription: Subscription) -> int:
    return max(subscription.kept_s * 1_000_000_000, _LEAST_NS) + _DAY_NS


def begin(asked: Asked, positions: Mapping[str, int]) -> Batch:
    """A batch with nothing in it yet, which goes on from what the table remembers of the subscription."""
    client = pubsub.client_of("SubscriberClient", asked.place)
    found = pubsub.look(client, asked.place, asked.name)
    since = positions.get(found.position, 0)
    number = max(time.time_ns(), since) + 1 + random.getrandbits(_RANDOM_BITS)
    return Batch(number, since, found, home_of(asked.state, asked.job, found.stream), Leases(client, found))


def fill(batch: Batch, asked: Asked) -> None:
    """Pull what there is, and put down what of it was never published.

    Raises Blocked where messages may be lost or published twice, unless that is accepted.
    """
    _look_out(batch, asked)
    try:
        again = _pull(batch, asked)
    except FileNotFoundError as error:
        raise Unavailable(
            f"{asked.name}: another run published messages of it meanwhile ({error}); run again"
        ) from error
    if again:
        batch.notes.append(
            f"{asked.name}: {again:,} messages came again that were published already: they are left out"
        )
    if batch.subscription.topic == DELETED:
        said = f"{asked.name}: the topic of the subscription was deleted: no more messages will come"
        if not batch.held.held:
            raise ConfigError(f"{said}; name another subscription")
        batch.notes.append(said)


def _pull(batch: Batch, asked: Asked) -> int:
    """Put down what is new; how many messages are not."""
    known, begun_ns = _known(batch, asked), time.time_ns()
    lot, seen, again = _Lot(), set[str](), 0
    for got in batch.held.pull(asked.most, asked.quiet_s):
        lot.add(got)
        if lot.is_full:
            again += _put_down(batch, lot, seen, known)
            lot = _Lot()
    again += _put_down(batch, lot, seen, known)
    batch.emptied_ns = begun_ns if len(batch.held.held) < asked.most else 0
    return again


def _look_out(batch: Batch, asked: Asked) -> None:
    """Say by what messages may get lost without any run seeing them."""
    if batch.subscription.dead_letters is not None:
        topic, times = batch.subscription.dead_letters
        messages.lose(
            f"{asked.name}: Pub/Sub moves messages to {topic} when they were handed out {times} times, as by runs that "
            "publish nothing: these would never be scored",
            batch.notes, asked.accept_loss,
        )  # fmt: skip
    emptied, kept_s = _emptied(batch.home), batch.subscription.retention_s
    if emptied and time.time_ns() - emptied > kept_s * 1_000_000_000:
        at = datetime.fromtimestamp(emptied / 1e9, UTC)
        messages.lose(
            f"{asked.name}: no run has come to the end of the messages since {at:%Y-%m-%d %H:%M} (UTC), and the "
            f"subscription keeps them for {kept_s / 86_400:.3g} days: some may have been deleted before they were "
            "scored",
            batch.notes, asked.accept_loss,
        )  # fmt: skip


def _known(batch: Batch, asked: Asked) -> list[published.Published]:
    """The ids of all that was published. What no run needs any more is taken away."""
    home, folder = batch.home, batch.home.join("published")
    there = spool.batches(home.join("batches"))
    found, missing = published.chain(published.files(folder), batch.since)
    last = [one for one in there if one.number == missing == batch.since]
    if last:  # its run was cut off between commit and acknowledgement
        _remember(home, last[0], batch.subscription)
        found, missing = published.chain(published.files(folder), batch.since)
    if missing and missing > time.time_ns() - _kept_ns(batch.subscription):
        at = datetime.fromtimestamp(missing / 1e9, UTC)
        messages.lose(
            f"{asked.name}: {display_name(folder)} does not say which messages were published up to "
            f"{at:%Y-%m-%d %H:%M} (UTC): those of them that come again would be scored twice",
            batch.notes, asked.accept_loss,
        )  # fmt: skip
    for one in there:
        if one.number <= batch.since or one.number < time.time_ns() - _LEAST_NS:
            spool.clear(one)
    return found


@dataclass
class _Lot:
    """Messages that wait until there are enough for a file."""

    ids: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.ids) >= _LOT_ROWS or self.size >= LOT_BYTES

    def add(self, got: Sequence[Any]) -> None:
        """Take messages as they came."""
        said = [one.message for one in got]
        self.ids += [message.message_id for message in said]
        self.times += [m.publish_time.seconds * 1_000_000 + m.publish_time.nanos // 1_000 for m in said]
        self.keys += [message.ordering_key.encode() or None for message in said]
        data = [message.data for message in said]
        self.data += data
        self.size += sum(map(len, data))

    def rows(self) -> pa.Table:
        """All of them."""
        times = pa.array(self.times, pa.int64()).cast(SCHEMA.field(TIME).type)
        return pa.table({ID: self.ids, TIME: times, KEY: pa.array(self.keys, pa.binary()), DATA: self.data}, SCHEMA)


def _put_down(batch: Batch, lot: _Lot, seen: set[str], known: Sequence[published.Published]) -> int:
    """Put a lot's messages down that are new; how many others were published already."""
    if not lot.ids:
        return 0
    rows = lot.rows()
    again = published.among(batch.home.join("published"), known, rows)
    new = []
    for id_ in lot.ids:  # some may be handed out twice even now
        new.append(id_ not in seen and id_ not in again)
        seen.add(id_)
    rows = rows.filter(pa.array(new))
    if rows.num_rows:
        spool.write(batch.spooled, len(batch.lots), rows)
        batch.lots.append(rows.num_rows)
    return len(again)
