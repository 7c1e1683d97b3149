"""A real server among good, bad and hostile clients: what is good is answered right, and it stays as it was.

Twenty seconds, or `SERVE_HOSTILE_SECONDS=180` for three minutes. That nothing is kept is seen by what a worker has in
use, which no longer grows after the first requests; its memory grows for some minutes by what is free in between, and
levels off.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lakehouse import models
from lakehouse.serving.messages import ARROW, JSON
from tests.conftest import read, score, write
from tests.serving import processes
from tests.serving.conftest import SUITE, Place, features, model
from tests.serving.test_handler import GOOD, records, stream
from tests.serving.test_server import call, serving

SECONDS = float(os.environ.get("SERVE_HOSTILE_SECONDS", "20"))
TIMEOUT = 6
OPTIONS = ("--max-body", "1", "--max-rows", "1000", "--queue", "6", "--timeout", str(TIMEOUT))
GROWTH_MB, BLOCKS, USED_MB = 40, 5_000, 1
"""What a worker's memory may grow by, and what it has in use: by Python's blocks, of which it has a million, and bytes."""
ONE, PATH = json.dumps([GOOD]).encode(), "/v1/likes/score"


@dataclass(frozen=True)
class Attack:
    """What is sent in one connection. `pause`: seconds between its bytes; `leaves`: it goes away without reading.

    `may`: the statuses that it may be answered with, none of them where the connection may just be closed.
    """

    sent: bytes
    may: tuple[int, ...]
    pause: float = 0.0
    leaves: bool = False


def post(body, kind=JSON, length=None, path=PATH, more=b""):
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n"
    return head.encode() + more + b"\r\n" + body


def bodies(chance):
    """Whole requests whose bodies can't be read."""
    arrow = stream(features(50))
    place, cut = chance.randrange(len(arrow)), chance.randrange(1, len(arrow))
    count = bytearray(arrow)
    struct.pack_into("<q", count, 8 * chance.randrange(len(arrow) // 8), chance.choice([2**62, -1, 2**31, 2**40]))
    flipped = bytes([*arrow[:place], arrow[place] ^ (1 << chance.randrange(8)), *arrow[place + 1 :]])
    bomb = gzip.compress(bytes(20 << 20))
    return [
        Attack(post(b"[" * 200_000), (400,)),
        Attack(post(b'{"a":' * 100_000), (400,)),
        Attack(post(b'[{"id": NaN}]'), (400,)),
        Attack(post(json.dumps([{**GOOD, "a": "NaN"}]).encode()), (400,)),
        Attack(post(b'[{"id": 1, "kind": "x", "a": 1e999, "b": 1, "c": 1}]'), (400,)),
        Attack(post(json.dumps([{"id": 10**30, **dict.fromkeys("abc", 1.0)}]).encode()), (400,)),
        Attack(post(json.dumps([{"unknown": 1}]).encode()), (400,)),
        Attack(post(json.dumps([{**GOOD, "more": "x" * 1000, "\x00": [[[]]]}]).encode()), (200,)),
        Attack(post(json.dumps({"columns": {"id": [1], "a": [1, 2]}}).encode()), (400,)),
        Attack(post(chance.randbytes(5_000)), (400,)),
        Attack(post("[{}]".encode("utf-16")), (400,)),
        Attack(post(bomb, more=b"Content-Encoding: gzip\r\n"), (415,)),
        Attack(post(bomb, kind="application/gzip"), (415,)),
        Attack(post(arrow[:cut], ARROW), (200, 400)),
        Attack(post(bytes(count), ARROW), (200, 400, 413, 422)),
        Attack(post(flipped, ARROW), (200, 400, 413, 415, 422)),
        Attack(post(b'id,a,b,c\n1,"' + b"x" * 10_000, "text/csv"), (400,)),
        Attack(post(b"id,a,b,c\n" + b"1,1,1,1\n" * 2_000, "text/csv"), (413,)),
        Attack(post(records(features(1_001))), (413,)),
        Attack(post(b" " * (2 << 20)), (413,)),
    ]  # fmt: skip


def wires(chance):
    """What isn't HTTP, or isn't all of it."""
    chunked = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n".encode()
    return [
        Attack(post(ONE, length=10_000), (408,), leaves=True),
        Attack(post(b"[", length=10_000), (408,)),
        Attack(post(b"id,a,b,c\n1,0,0,0\n", "text/csv", length=90), (408,)),
        Attack(post(ONE, length=10_000), (408,), pause=0.05),
        Attack(post(ONE)[:60], (408,), pause=0.1),
        Attack(post(ONE, length=2**40), (413,)),
        Attack(post(ONE, length=-1), (400,)),
        Attack(post(ONE, more=b"Content-Length: 3\r\n"), (400,)),
        Attack(post(ONE, more=b"Transfer-Encoding: chunked\r\n"), (400,)),
        Attack(chunked + b"\r\nffffffffffffffff\r\n[", (400, 408)),
        Attack(chunked + b"\r\nzz\r\n[", (400, 408)),
        Attack(chunked + b"\r\n" + b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20)) * 2 + b"0\r\n\r\n", (413,)),
        Attack(chunked.replace(b"chunked", b"gzip, chunked") + b"\r\n0\r\n\r\n", (400, 415, 501)),
        Attack(post(ONE, more=b"X-Large: " + b"x" * 100_000 + b"\r\n"), (400, 431)),
        Attack(post(ONE, more=b"".join(b"X-%d: 1\r\n" % n for n in range(1_000))), (400, 431)),
        Attack(post(ONE, path="/v1/" + "x" * 50_000), (400, 414)),
        Attack(post(ONE, path="/v1/likes/%00%ff/score"), (404,)),
        Attack(post(ONE, path="/v1/../../etc/passwd"), (404,)),
        Attack(post(ONE) + chance.randbytes(300), (200, 400)),
        Attack(post(ONE) + post(ONE) + b"GARBAGE\r\n\r\n", (200, 400)),
        Attack(post(ONE), (), leaves=True),
        Attack(b"", (), leaves=True),
        Attack(chance.randbytes(2_000), (400,)),
        Attack(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400,)),
        Attack(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 404, 405, 505)),
        Attack(b"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n", (405,)),
        Attack(b"GET /v1/likes/scores/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"9" * 5_000), (400, 404)),
    ]  # fmt: skip


def carry_out(attack, port):
    """The statuses that came back, until the server or this client closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT + 15) as connection:
        try:
            pieces = [attack.sent[n : n + 1] for n in range(len(attack.sent))] if attack.pause else [attack.sent]
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(attack.pause)
            if attack.leaves:
                linger = struct.pack("ii", 1, 0)  # a reset rather than an orderly end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return []
            if not attack.pause and 408 not in attack.may:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed while there was more to send
        received = b""
        try:
            while part := connection.recv(1 << 16):
                received += part
        except TimeoutError:
            raise AssertionError(f"no end of {attack.sent[:200]!r}: {received[:200]!r}") from None
        except OSError:
            pass
        return [int(status) for status in re.findall(rb"(?:^|\})HTTP/1\.1 (\d{3})", received)]


@pytest.fixture
def place(tmp_path, register, tracking_uri):
    made = Place(tmp_path, str(tmp_path / "likes.yaml"))
    (tmp_path / "suite.json").write_text(json.dumps(SUITE))
    write(made.table("features"), features())
    score(made.write_job(register(*model(), name="besieged"), tracking_uri))
    return made


class Siege:
    """Clients until a time; what went wrong, and how often what came back."""

    def __init__(self, address, published):
        self.address, self.port, self.published = address, int(address.rpartition(":")[2]), published
        self.wrong, self.seen, self.lock = [], Counter(), threading.Lock()

    def run(self, until):
        clients = [self.good, self.good, self.good, self.look_up, self.burst, self.attack, self.attack]
        threads = [threading.Thread(target=self._repeat, args=(one, n, until)) for n, one in enumerate(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(until - time.monotonic() + 120)
            assert not thread.is_alive(), "a client waits for ever"

    def _repeat(self, client, seed, until):
        chance = random.Random(f"{seed} {until}")
        while time.monotonic() < until and not self.wrong:
            try:
                client(chance)
            except Exception as error:
                self.wrong.append(f"{client.__name__}: {error!r}")

    def _count(self, who, status):
        with self.lock:
            self.seen[who, status] += 1

    def good(self, chance, rows=0):
        first = chance.randrange(300)
        table = features().slice(first, rows or chance.randrange(1, 90))
        status, said = call(f"{self.address}{PATH}", records(table))
        self._count("good", status)
        if status == 503:
            return
        assert status == 200 or (status == 422 and len(table) == 1), (status, said)
        found = {row["id"]: row["p"] for row in said["scores"]}
        wanted = {key: self.published[key] for key in table["id"].to_pylist() if key in self.published}
        assert found.keys() == wanted.keys()
        assert models.alike(np.array(list(found.values())), np.array([wanted[key] for key in found])).all()

    def look_up(self, chance):
        key = chance.choice([*self.published])
        status, said = call(f"{self.address}/v1/likes/scores/{key}")
        self._count("look up", status)
        if status == 503:  # as long as nobody has looked at the table, or it is overrun
            return
        assert (status, said["score"]["p"]) == (200, self.published[key])

    def burst(self, chance):
        """More at once than the queues of all workers take."""
        threads = [threading.Thread(target=self._caught, args=(random.Random(n),)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(chance.random())

    def _caught(self, chance):
        try:
            self.good(chance, 90)
        except Exception as error:
            self.wrong.append(repr(error))

    def attack(self, chance):
        attack = chance.choice(chance.choice([bodies, wires])(chance))
        for status in carry_out(attack, self.port):
            self._count("attack", status)
            assert status in (*attack.may, 503), (status, attack.sent[:300])


def state(process, told):
    """Of each worker: memory in MB, open files, threads, and blocks and MB in use."""
    found = {}
    for one in processes.workers(process):
        files, threads = (len(os.listdir(f"/proc/{one}/{kind}")) for kind in ("fd", "task"))
        blocks, used = processes.in_use(one, told)
        found[one] = (processes.megabytes(one, "Rss"), files, threads, blocks, used / 2**20)
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="processes and their memory are read as Linux tells them")
def test_good_requests_are_answered_right_among_hostile_ones_and_nothing_is_left(place):
    published = read(place.table("scores"))
    scores = dict(zip(published["id"].to_pylist(), published["p"].to_pylist(), strict=True))
    told = place.folder / "told"
    with serving(place, *OPTIONS, environ=processes.telling(told)) as (address, process, log):
        siege = Siege(address, scores)
        siege.run(time.monotonic() + max(SECONDS / 4, 15))  # what a process takes once
        time.sleep(TIMEOUT + 2)
        before = state(process.pid, told)
        siege.run(time.monotonic() + SECONDS)
        time.sleep(TIMEOUT + 2)  # the last slow ones are let go
        after, text = state(process.pid, told), Path(log).read_text()
        print(dict(siege.seen), before, after, sep="\n")
        assert siege.wrong == [], text[-3000:]
        assert len(before) == 2
        assert before.keys() == after.keys()  # no worker has ended
        for worker, now in after.items():
            for found, first, most in zip(now, before[worker], (GROWTH_MB, 5, 25, BLOCKS, USED_MB), strict=True):
                assert found <= first + most, (now, before[worker])
        assert siege.seen["good", 200] > SECONDS
        assert siege.seen["good", 503] > 0  # there was more at once than the queue takes
        assert "Traceback" not in text
        assert call(f"{address}{PATH}", ONE)[0] == 200
