"""Until when a connection's request must have come whole and its answer be taken: slow clients don't keep threads."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

_until: dict[socket.socket, tuple[float, int]] = {}
"""By connection when its time is up, and which ways are then shut."""


def begin(connection: socket.socket, seconds: float) -> None:
    """A request begins to come: after so long no more of it is read."""
    _until[connection] = (time.monotonic() + seconds, socket.SHUT_RD)


def received(connection: socket.socket | None, seconds: float) -> None:
    """The request is there: so long for the answer to be found, and as long for the client to take it."""
    if connection in _until:
        _until[connection] = (time.monotonic() + 2 * seconds, socket.SHUT_RDWR)


def end(connection: socket.socket) -> None:
    """Nothing more is waited for."""
    _until.pop(connection, None)


def enforce() -> None:
    """Shut the connections whose time is up: who waits for them goes on at once."""
    now = time.monotonic()
    for connection, (until, ways) in list(_until.items()):
        if now > until:
            end(connection)
            with suppress(OSError):
                connection.shutdown(ways)
