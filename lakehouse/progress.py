"""How workers tell the driver how far they are: small datagrams, lost ones cost nothing but a late figure.

Each worker sends its running totals, so any later message makes up for a lost one. Messages carry the run's
token; others are ignored.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

Watch = Callable[[int, int], None]
"""Called with (units done, rows read) over all workers."""


@dataclass(frozen=True)
class Address:
    """Where a run's driver listens; None of it is secret outside the run."""

    host: str
    port: int
    token: str


@contextmanager
def listen(host: str, watch: Watch | None) -> Iterator[Address | None]:
    """Listen for the workers' totals while the block runs, and hand their sums to `watch`.

    Yields None where nobody watches or `host` is not an address of this machine.
    """
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.bind((host, 0))
    except OSError:
        receiver.close()
        watch = None
    if watch is None:
        receiver.close()
        yield None
        return
    address = Address(host, receiver.getsockname()[1], secrets.token_hex(8))
    thread = threading.Thread(target=_receive, args=(receiver, address.token, watch), daemon=True)
    thread.start()
    try:
        yield address
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (host, address.port))
        thread.join(timeout=2)
        receiver.close()


def _receive(receiver: socket.socket, token: str, watch: Watch) -> None:
    totals: dict[str, tuple[int, int]] = {}
    while message := receiver.recv(1024):
        with suppress(ValueError, KeyError):
            said = json.loads(message)
            if said["token"] == token:
                totals[said["worker"]] = (said["units"], said["rows"])
                watch(sum(u for u, _ in totals.values()), sum(r for _, r in totals.values()))


def tell(address: Address | None, worker: str, units: int, rows: int) -> None:
    """Send a worker's totals; never blocks, and no failure of the network matters."""
    if address is None:
        return
    message = json.dumps({"token": address.token, "worker": worker, "units": units, "rows": rows}).encode()
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(message, (address.host, address.port))
