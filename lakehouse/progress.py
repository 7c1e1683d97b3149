"""How workers tell the driver how far they are, or that they failed for good: datagrams, of which none is needed.

Each worker sends its running totals, so any later message makes up for a lost one; a failure is in the worker's
manifest too, and told so that the others can be stopped. Messages carry the run's token; others are ignored, whatever
they are.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

Watch = Callable[[int, int], None]
"""Called with (units done, rows read) over all workers."""
Failed = Callable[[dict[str, Any]], object]
"""Called with the manifest row of a worker that failed for good."""
_LONGEST = 60_000
"""Bytes of a datagram that every system lets through."""


@dataclass(frozen=True)
class Address:
    """Where a run's driver listens; None of it is secret outside the run."""

    host: str
    port: int
    token: str


@contextmanager
def listen(host: str, watch: Watch | None, failed: Failed | None = None) -> Iterator[Address | None]:
    """Listen for the workers while the block runs: the sums of their totals go to `watch`, failures to `failed`.

    Yields None where nobody wants to know or `host` is not an address of this machine.
    """
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.bind((host, 0))
    except OSError:
        watch = failed = None
    if not host or (watch is None and failed is None):
        receiver.close()
        yield None
        return
    address = Address(host, receiver.getsockname()[1], secrets.token_hex(8))
    thread = threading.Thread(target=_receive, args=(receiver, address.token, watch, failed), daemon=True)
    thread.start()
    try:
        yield address
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (host, address.port))
        thread.join(timeout=2)
        receiver.close()


def _receive(receiver: socket.socket, token: str, watch: Watch | None, failed: Failed | None) -> None:
    totals: dict[str, tuple[int, int]] = {}
    while message := receiver.recv(1 << 16):
        said = _parse_message(message, token)
        if failed is not None and isinstance(row := said.get("failed"), dict):
            failed(row)
        elif watch is not None and all(type(said.get(name)) is int for name in ("units", "rows")):
            totals[str(said.get("worker"))] = (said["units"], said["rows"])
            watch(sum(u for u, _ in totals.values()), sum(r for _, r in totals.values()))


def _parse_message(message: bytes, token: str) -> dict[str, Any]:
    """What a message of this run says; nothing where it is none."""
    try:
        said = json.loads(message)
    except ValueError:
        return {}
    return said if isinstance(said, dict) and said.get("token") == token else {}


def tell(address: Address | None, worker: str, units: int, rows: int) -> None:
    """Send a worker's totals; never blocks, and no failure of the network matters."""
    _send(address, {"worker": worker, "units": units, "rows": rows})


def tell_failed(address: Address | None, row: Mapping[str, Any]) -> None:
    """Send the manifest row of a worker that failed for good; as `tell`."""
    _send(address, {"failed": dict(row)})


def _send(address: Address | None, said: Mapping[str, Any]) -> None:
    if address is None:
        return
    message = json.dumps({"token": address.token, **said}).encode()
    if len(message) > _LONGEST:
        return
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(message, (address.host, address.port))
