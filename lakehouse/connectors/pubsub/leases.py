"""Messages that are handed out to this process: pulled, kept from coming to others, acknowledged or given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from lakehouse.connectors.messages import LOT_BYTES
from lakehouse.connectors.pubsub import PATIENCE, Subscription, explained, patient

DEADLINE_S = 120
"""So long a message is nobody else's without word of this process."""
_RENEW_S = DEADLINE_S / 3
_PULL = 1_000
"""Messages of an answer at most: more can't be asked for."""
_FIRST = 100
"""Messages of the first answers; of later ones so many as have LOT_BYTES together, as large as those before."""
_ACK = 1_000
"""Messages that are told of in a request, which must stay below 512 KB."""
_THREADS = 4
_ENOUGH = 0.9
"""Of the time without messages, so much has to have passed by our own clock."""
_PAUSE_S = 0.1
"""Seconds before messages are asked for again where an answer had none."""


@dataclass
class Leases:
    """What this process holds of a subscription, by the ids to acknowledge it by; `ended` when it is dealt with.

    `say` tells others that it holds something, each time that it is kept for longer.
    """

    client: Any
    subscription: Subscription
    say: Callable[[], object]
    held: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def where(self) -> str:
        """What errors say."""
        return self.subscription.path

    def pull(self, most: int, quiet_s: float) -> Iterator[Sequence[Any]]:
        """Messages as they come, until there are so many, or none comes for so many seconds.

        Where a subscription keeps the order of a key's messages one thread pulls, or they would be mixed up.
        """
        threads = 1 if self.subscription.ordered else _THREADS
        keeper = threading.Thread(target=self._renew, name="leases", daemon=True)
        keeper.start()
        with ThreadPoolExecutor(threads) as pool, explained(self.where):
            left, last, at_once = most, time.monotonic(), _FIRST
            while left > 0:
                share = min(at_once, -(-left // threads))
                asked = [min(share, left - share * n) for n in range(threads) if left > share * n]
                answers = [pool.submit(self._pull, count, quiet_s) for count in asked]
                got = [message for answer in answers for message in answer.result()]
                if not got:  # an answer without messages may come early
                    if time.monotonic() - last >= _ENOUGH * quiet_s:
                        return
                    time.sleep(_PAUSE_S)
                    continue
                left, last = left - len(got), time.monotonic()
                size = sum(len(one.message.data) for one in got)
                at_once = min(_PULL, max(LOT_BYTES * len(got) // max(size, 1) // threads, 1))
                yield got

    def _pull(self, most: int, quiet_s: float) -> Sequence[Any]:
        from google.api_core import exceptions as failures

        asked, begun = {"subscription": self.subscription.path, "max_messages": most}, time.monotonic()
        try:
            said = self.client.pull(request=asked, retry=patient(PATIENCE)["retry"], timeout=quiet_s)
        except (failures.DeadlineExceeded, failures.Cancelled, failures.Unknown):  # as the server or a proxy takes it
            if time.monotonic() - begun < _ENOUGH * quiet_s:
                raise
            return []
        messages = type(said).pb(said).received_messages
        ids = [message.ack_id for message in messages]
        self.held += ids
        if ids:
            self._extend(ids, DEADLINE_S)
        return messages  # type: ignore[no-any-return]

    def _renew(self) -> None:
        """Keep what is held, in a thread of its own, until it is dealt with, whatever goes wrong meanwhile."""
        while not self.ended.wait(_RENEW_S):
            for ids in _parts(list(self.held)):
                # What comes to others for want of this is known by its id; at the end the channel is closed.
                with suppress(Exception):
                    self._extend(ids, DEADLINE_S)
            with suppress(Exception):
                if not self.ended.is_set():
                    self.say()

    def _extend(self, ids: Sequence[str], seconds: int) -> None:
        asked = {"subscription": self.subscription.path, "ack_ids": ids, "ack_deadline_seconds": seconds}
        self.client.modify_ack_deadline(request=asked, **patient(PATIENCE))

    def acknowledge(self) -> None:
        """Say that all is done with what is held. Raises Unavailable or ConfigError where that isn't heard."""
        self._tell(lambda ids: self.client.acknowledge(
            request={"subscription": self.subscription.path, "ack_ids": ids}, **patient(PATIENCE)
        ))  # fmt: skip

    def give_back(self) -> bool:
        """Have what is held come again at once, where Pub/Sub can be reached; else it comes when its time is up."""
        with suppress(Exception):
            self._tell(lambda ids: self._extend(ids, 0))
            return True
        return False

    def _tell(self, say: Any) -> None:
        self.ended.set()
        with ThreadPoolExecutor(_THREADS) as pool, explained(self.where):
            list(pool.map(say, _parts(self.held)))
        self.held = []


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _ACK] for start in range(0, len(ids), _ACK))
