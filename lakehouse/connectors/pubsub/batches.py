"""A batch: what a run has pulled, put down as lots, and what becomes of it at the run's end."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from lakehouse.connectors import messages, pubsub
from lakehouse.connectors.messages import home_of
from lakehouse.connectors.pubsub import DELETED, Place, Subscription, ends, published, spool, uses
from lakehouse.connectors.pubsub.leases import Leases
from lakehouse.connectors.pubsub.lots import Lot
from lakehouse.connectors.pubsub.spool import Spooled
from lakehouse.connectors.pubsub.uses import Use
from lakehouse.errors import ConfigError, LakehouseError, Unavailable
from lakehouse.storage import Location, display_name

_DAY_NS = 86_400_000_000_000
_LEAST_NS = 7 * _DAY_NS
"""So long ids are kept at least: a snapshot can bring messages back for a week."""
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

    `uses`: where runs note that they take messages of the subscription. `declared`: it may be published from now on, be
    it by another process. `forgone`: up to this batch, if any, somebody accepts that it isn't known what was published,
    which counts once this batch is published, or there was nothing to publish.
    `emptied_ns`: up to when all that came to the subscription is in it, or dealt with, in ns since 1970; 0 where there
    may be more.
    """

    job: str
    number: int
    since: int
    subscription: Subscription
    home: Location
    uses: Location
    held: Leases
    lots: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    declared: bool = False
    settled: bool = False
    forgone: int = 0
    emptied_ns: int = 0

    @property
    def spooled(self) -> Spooled:
        """Where it is put down."""
        return Spooled(self.home.join("batches"), self.since, self.number, self.forgone)

    def settle(self) -> None:
        """Remember and acknowledge what was published, of which no more is needed here.

        Raises Unavailable or ConfigError where Pub/Sub doesn't hear it: it comes again, and is known then.
        """
        self.settled = True
        if self.lots:
            _remember(self.home, self.spooled, self.subscription)
            spool.clear(self.spooled)
            self.lots = []
        elif self.forgone:
            published.forgo(self.home.join("published"), self.forgone)
        self.held.acknowledge()
        ends.remember(self.home, self.emptied_ns, self.number)  # whose number is about when it began

    def end(self) -> None:
        """Give back what isn't settled, and take away what can't be published any more."""
        given_back = self.held.give_back()
        self.held.client.close()
        with suppress(LakehouseError, OSError):  # a later run takes it away
            if self.settled:
                uses.note(self.uses, Use(self.job, 0, time.time_ns()))
            if given_back:
                uses.forget(self.uses, Use(self.job, self.number, 0))
            if self.lots and not self.declared:
                spool.clear(self.spooled)


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
    home, noted = home_of(asked.state, asked.job, found.stream), uses.folder_of(asked.state, found.stream)
    held = Leases(client, found, lambda: uses.note(noted, Use(asked.job, number, time.time_ns())))
    return Batch(asked.job, number, since, found, home, noted, held)


def fill(batch: Batch, asked: Asked) -> None:
    """Pull what there is, and put down what of it was never published.

    Raises Blocked where messages may be lost or published twice, unless that is accepted.
    """
    there = _uses(batch)
    _look_out(batch, asked, there)
    try:
        again = _pull(batch, asked, there)
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


def _pull(batch: Batch, asked: Asked, there: Sequence[Use]) -> int:
    """Put down what is new; how many messages are not."""
    known, begun_ns = _known(batch, asked), time.time_ns()
    alone = not any(use.holds(begun_ns) for use in there)
    batch.held.say()
    lot, seen, again, newest_ns = Lot(), set[str](), 0, dict[str, int]()
    for got in batch.held.pull(asked.most, asked.quiet_s):
        lot.add(got)
        if batch.subscription.ordered:
            ends.note_newest(newest_ns, got)
        if lot.is_full:
            again += _put_down(batch, lot, seen, known)
            lot = Lot()
    again += _put_down(batch, lot, seen, known)
    if alone and len(batch.held.held) < asked.most:
        others = [use for use in _uses(batch) if (use.job, use.number) != (batch.job, batch.number)]
        alone = not any(use.holds(time.time_ns()) or use.at_ns > begun_ns for use in others)  # be they done meanwhile
        batch.emptied_ns = min([begun_ns, *newest_ns.values()]) if alone else 0
    return again


def _uses(batch: Batch) -> list[Use]:
    return uses.of(batch.uses, time.time_ns(), _kept_ns(batch.subscription), batch.notes)


def _look_out(batch: Batch, asked: Asked, there: Sequence[Use]) -> None:
    """Say by what messages may get lost without any run seeing them."""
    if batch.subscription.dead_letters is not None:
        topic, times = batch.subscription.dead_letters
        messages.lose(
            f"{asked.name}: Pub/Sub moves messages to {topic} when they were handed out {times} times, as by runs that "
            "publish nothing: these would never be scored",
            batch.notes, asked.accept_loss,
        )  # fmt: skip
    ends.require_recent(batch.home, asked.name, batch.subscription.retention_s, batch.notes, asked.accept_loss)
    for job, at_ns in sorted({use.job: use.at_ns for use in there if use.job not in ("", batch.job)}.items()):
        at = datetime.fromtimestamp(at_ns / 1e9, UTC)
        batch.notes.append(
            f"{asked.name}: the job {job} took messages of it as well, last on {at:%Y-%m-%d %H:%M} (UTC): a message "
            "comes to one of the jobs only, so give each a subscription of its own; if that is a former name of this "
            "job, what it published and could not acknowledge is scored twice"
        )


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
        batch.forgone = missing
    for one in there:
        if one.number <= batch.since or one.number < time.time_ns() - _LEAST_NS:
            spool.clear(one)
    return found


def _put_down(batch: Batch, lot: Lot, seen: set[str], known: Sequence[published.Published]) -> int:
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
