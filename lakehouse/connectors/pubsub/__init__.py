"""Pub/Sub's client: what a subscription is, and the errors of asking for it. Login is that of Google's own tools."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lakehouse.errors import ConfigError, Unavailable, nearest

PATIENCE = 30.0
"""Seconds for an answer."""
DELETED = "_deleted-topic_"
"""What Pub/Sub calls the topic of a subscription whose topic was deleted."""


@dataclass(frozen=True)
class Place:
    """A project, and how it is reached."""

    project: str | None = None
    endpoint: str | None = None

    @property
    def shown(self) -> str:
        """The address, for people."""
        return self.endpoint or os.environ.get("PUBSUB_EMULATOR_HOST") or "Pub/Sub"


@dataclass(frozen=True)
class Subscription:
    """A subscription as it is now. `path`: its full name, `topic` that of its topic.

    `kept_s`: so many seconds after it was published a message can come, be it again. `dead_letters`: where Pub/Sub puts
    messages, after how many deliveries.
    """

    path: str
    topic: str
    ordered: bool
    kept_s: int
    retention_s: int
    dead_letters: tuple[str, int] | None

    @property
    def stream(self) -> str:
        """Its project and its name."""
        _, project, _, name = self.path.split("/")
        return f"{project}/{name}"

    @property
    def position(self) -> str:
        """The name of the position that the scored table remembers: the number of the last batch."""
        return f"{self.stream}/batch"


def library() -> ModuleType:
    """The client. Raises ConfigError where it isn't installed."""
    try:
        import google.cloud.pubsub_v1 as pubsub_v1
    except ImportError as error:
        raise ConfigError(f"type: pubsub needs its client: pip install lakehouse[pubsub] ({error})") from error
    module: ModuleType = pubsub_v1
    return module


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Raise what the library raises as an error that says where, and what was said."""
    import grpc
    from google.api_core import exceptions as failures
    from google.auth import exceptions as logins

    refused = (failures.PermissionDenied, failures.Unauthenticated)
    try:
        yield
    except refused as failed:
        raise _no_login(where, failed.message) from failed
    except (failures.InvalidArgument, failures.FailedPrecondition, failures.NotFound) as failed:
        raise ConfigError(f"{where}: {failed.message}") from failed
    except failures.RetryError as failed:
        raise Unavailable(f"{where}: {failed.message} ({getattr(failed.cause, 'message', failed.cause)})") from failed
    except failures.GoogleAPIError as failed:
        raise Unavailable(f"{where}: {getattr(failed, 'message', failed)}") from failed
    except (logins.TransportError, grpc.RpcError) as failed:
        raise Unavailable(f"{where}: {failed}") from failed
    except logins.GoogleAuthError as failed:
        raise _no_login(where, str(failed)) from failed


def _no_login(where: str, said: str) -> ConfigError:
    said = said.rstrip(".")
    return ConfigError(
        f"{where}: {said}; see the login of Google's own tools (gcloud auth application-default login), and its rights"
    )


def _emulator(place: Place) -> str:
    """Its host and port, if it is one, which is reached without login."""
    scheme, _, host = (place.endpoint or "").rstrip("/").rpartition("://")
    return os.environ.get("PUBSUB_EMULATOR_HOST") or (host if scheme == "http" else "")


def client_of(kind: str, place: Place, **options: Any) -> Any:
    """A client, `kind` being the library's name for it. Raises ConfigError where library or login is missing."""
    made = getattr(library(), kind)
    emulator = _emulator(place)
    if not emulator:
        host = (place.endpoint or "").rstrip("/").rpartition("://")[2]
        with explained(place.shown):
            return made(client_options={"api_endpoint": host} if host else None, **options)
    import grpc

    # as the library reaches the real service: else an answer of more than 4 MB would not come through
    channel = grpc.insecure_channel(emulator, [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")])
    return made(transport=made.get_transport_class("grpc")(channel=channel), **options)


def project_of(place: Place) -> str:
    """The project that is named, or else that of the environment or the login."""
    if named := place.project or os.environ.get("GOOGLE_CLOUD_PROJECT"):
        return named
    if _emulator(place):
        raise ConfigError(f"{place.shown}: an emulator tells no project: give `project`, or set GOOGLE_CLOUD_PROJECT")
    import google.auth

    library()
    with explained(place.shown):
        _, found = google.auth.default()
    if not found:
        raise ConfigError(f"{place.shown}: the login names no project: give `project`, or set GOOGLE_CLOUD_PROJECT")
    return str(found)


def patient(seconds: float) -> dict[str, Any]:
    """How a call is made: what may pass is tried again for so long."""
    from google.api_core import exceptions as failures
    from google.api_core.retry import Retry, if_exception_type

    passing = if_exception_type(failures.ServiceUnavailable, failures.InternalServerError, failures.ResourceExhausted)
    return {"retry": Retry(predicate=passing, initial=0.1, maximum=5.0, timeout=seconds), "timeout": seconds}


def look(client: Any, place: Place, name: str) -> Subscription:
    """The subscription as it is now.

    Raises ConfigError where it isn't there, may not be seen, or can't be pulled; Unavailable where nobody answers.
    """
    from google.api_core import exceptions as failures

    project = project_of(place)
    where = f"subscription {name} of project {project} ({place.shown})"
    with explained(where):
        path = client.subscription_path(project, name)
        try:
            said = client.get_subscription(request={"subscription": path}, **patient(PATIENCE))
        except failures.NotFound:
            raise ConfigError(f"source.subscription: there is none: {where}{_near(client, project, name)}") from None
    _require_pulled(said, where)
    retention = int(said.message_retention_duration.total_seconds())
    kept = max(retention, int(said.topic_message_retention_duration.total_seconds()))
    dead = said.dead_letter_policy
    dead_letters = (dead.dead_letter_topic, dead.max_delivery_attempts or 5) if dead.dead_letter_topic else None
    return Subscription(path, said.topic, said.enable_message_ordering, kept, retention, dead_letters)


def _near(client: Any, project: str, name: str) -> str:
    """What a person may have meant, where the login may list what there is."""
    from google.api_core import exceptions as failures

    try:
        listed = client.list_subscriptions(request={"project": f"projects/{project}"}, **patient(PATIENCE))
        known = [one.name.rpartition("/")[2] for one in listed]
    except failures.GoogleAPIError:
        return ""
    return f", {nearest(name, known)}"


def _require_pulled(said: Any, where: str) -> None:
    """Raise ConfigError for a subscription whose messages go elsewhere by themselves."""
    elsewhere = {
        said.push_config.push_endpoint: "pushes its messages to",
        said.bigquery_config.table: "writes its messages to BigQuery's table",
        said.cloud_storage_config.bucket: "writes its messages to Cloud Storage's bucket",
    }
    for target, does in elsewhere.items():
        if target:
            raise ConfigError(f"{where}: it {does} {target}: name one that is pulled")
    if said.detached:
        raise ConfigError(f"{where}: it is detached from its topic, what it held is gone: name another one, made anew")
