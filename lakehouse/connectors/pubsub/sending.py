"""Writing events to a topic of Pub/Sub, each at least once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from lakehouse.connectors.messages import LOT_BYTES, Event
from lakehouse.connectors.pubsub import PATIENCE, Place, client_of, explained, library, patient, project_of
from lakehouse.errors import Unavailable

LARGEST = 9_900_000
"""Bytes of an event's value: with its attributes a request may have 10 MB."""
_SHORT = 5.0
"""Seconds for an answer before a run does its work."""
_UNDER_WAY, _BYTES = 10_000, LOT_BYTES
"""Events that may be on their way at once, and the bytes of their values."""
_LONGEST = 1_024
"""Bytes of an attribute or an ordering key, at most."""


def require(stream: Mapping[str, Any]) -> None:
    """Raise ConfigError where the library isn't installed or there is no such topic.

    A login that may write to it need not be allowed to look at it: then nothing is said. Raises Unavailable where
    nobody answers within a few seconds.
    """
    from google.api_core import exceptions as failures

    place = Place(stream["project"], stream["endpoint"])
    project = project_of(place)
    with (
        client_of("PublisherClient", place) as client,
        explained(_where(stream, project, place)),
        suppress(failures.PermissionDenied),
    ):
        client.get_topic(request={"topic": client.topic_path(project, stream["topic"])}, **patient(_SHORT))


def _where(stream: Mapping[str, Any], project: str, place: Place) -> str:
    return f"publish_events.topic: topic {stream['topic']} of project {project} ({place.shown})"


def send(stream: Mapping[str, Any], events: Iterable[Event]) -> None:
    """Write the events to `topic`, each with its id and its key as attributes `id` and `key`.

    Raises ConfigError where there is no such topic or it may not be written to, Unavailable where not all events are
    known to be written.
    """
    place = Place(stream["project"], stream["endpoint"])
    options = library().types.PublisherOptions(stream["ordered"], **patient(PATIENCE))
    project = project_of(place)
    where, going = _where(stream, project, place), _UnderWay()
    with explained(where):
        client = client_of("PublisherClient", place, publisher_options=options)
        topic = client.topic_path(project, stream["topic"])
        try:
            for event in events:
                going.make_room(len(event.value))
                answer = client.publish(topic, event.value, **_labels(event, ordered=stream["ordered"]))
                going.add(answer, len(event.value))
            going.wait_for_all()
        except Late as error:
            raise Unavailable(f"{where}: no answer: not all events are written") from error
        finally:
            client.stop()


@dataclass
class _UnderWay:
    """Events that are sent and not known to be written, with the bytes of each."""

    sent: deque[tuple[Any, int]] = field(default_factory=deque)
    size: int = 0

    def add(self, answer: Any, size: int) -> None:
        self.sent.append((answer, size))
        self.size += size

    def make_room(self, size: int) -> None:
        """Wait until one more, of so many bytes, may be sent."""
        while self.sent and (len(self.sent) >= _UNDER_WAY or self.size + size > _BYTES):
            self._wait()

    def wait_for_all(self) -> None:
        while self.sent:
            self._wait()

    def _wait(self) -> None:
        answer, size = self.sent.popleft()
        answer.result(2 * PATIENCE)
        self.size -= size


def _labels(event: Event, *, ordered: bool) -> dict[str, str]:
    labels = {"id": event.id}
    if len(event.key) <= _LONGEST:
        labels["key"] = event.key.decode()
        labels |= {"ordering_key": event.key.decode()} if ordered else {}
    return labels
