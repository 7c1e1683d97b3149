"""The gate to the model, and keys as they are referred to: pure, with no server and no job."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from lakehouse.errors import ConfigError
from lakehouse.serving import deadlines
from lakehouse.serving.access import first_key, read_keys
from lakehouse.serving.limits import Gate, Limits
from lakehouse.serving.messages import Refusal
from lakehouse.serving.parity import parity


def test_one_request_has_the_model_at_a_time_and_those_beyond_the_queue_are_sent_away():
    gate, at_work, go = Gate(Limits(queue=1)), threading.Event(), threading.Event()
    answers = []

    def work():
        at_work.set()
        go.wait(20)
        return "done"

    threads = [threading.Thread(target=lambda: answers.append(gate.run(work))) for _ in range(2)]
    threads[0].start()
    assert at_work.wait(20)
    threads[1].start()
    while gate.inside < 2:
        pass
    with pytest.raises(Refusal, match="2 requests wait already") as refused:
        gate.run(work)
    go.set()
    for thread in threads:
        thread.join(20)
    assert (refused.value.status, answers, gate.run(lambda: 1)) == (503, ["done", "done"], 1)


def test_a_model_that_does_not_answer_in_time_is_told_of_and_what_waits_behind_it_is_not_begun():
    told, go, begun = [], threading.Event(), []
    gate = Gate(Limits(seconds=0.2), lambda: told.append("stuck"))
    with pytest.raises(Refusal, match=r"no answer in 0\.2 seconds") as refused:
        gate.run(lambda: go.wait(20))
    assert (refused.value.status, told) == (503, ["stuck"])
    with pytest.raises(Refusal):
        gate.run(lambda: begun.append(1))
    go.set()
    assert (gate.run(lambda: "again"), begun, told) == ("again", [], ["stuck"])


def test_work_that_is_done_before_anybody_waits_for_it_leaves_the_gate_open():
    def at_once(work):
        done = Future()
        done.set_result(work())
        return done

    gate, answers = Gate(Limits()), []
    gate._pool = SimpleNamespace(submit=at_once)
    thread = threading.Thread(target=lambda: answers.append(gate.run(lambda: 1)), daemon=True)
    thread.start()
    thread.join(10)
    assert (answers, gate.inside) == ([1], 0)


def test_who_sends_or_reads_too_slowly_is_let_go():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        deadlines.begin(ours, 60)
        deadlines.enforce()
        theirs.sendall(b"a")
        assert ours.recv(1) == b"a"
        deadlines.begin(ours, -1)
        deadlines.enforce()
        assert ours.recv(1) == b""  # at once, although the client is still there
        ours.sendall(b"408")  # which it is told
        assert theirs.recv(3) == b"408"
        deadlines.begin(ours, 60)
        deadlines.received(ours, -1)
        deadlines.enforce()
        with pytest.raises(BrokenPipeError):
            ours.sendall(b"the answer")
        deadlines.received(ours, 60)  # of one that is let go nothing is kept
        assert ours not in deadlines._until


def test_keys_are_read_from_where_the_reference_says(tmp_path):
    file = tmp_path / "keys"
    file.write_text("shop=0123456789abcdef=\n\n0123456789abcdefgh\n")
    assert list(read_keys(f"file:{file}")) == ["shop", "key2"]
    assert first_key(f"file:{file}") == "0123456789abcdef="
    assert list(read_keys("env:K", {"K": "a=0123456789abcdef,b=0123456789abcdefg"})) == ["a", "b"]
    assert read_keys(None) == {}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("0123456789abcdef", "name where the keys are, env:NAME or file:PATH"),
        ("env:GONE", "the environment variable GONE is not set"),
        ("file:/nowhere/keys", "No such file"),
        ("env:SHORT", "the key a has less than 16 characters"),
        ("env:EMPTY", "there is no key in it"),
        ("env:TWICE", "two keys are called a"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_and_no_key_is_shown(reference, said):
    environ = {"SHORT": "a=secret", "EMPTY": " \n", "TWICE": "a=0123456789abcdef,a=0123456789abcdefg"}
    with pytest.raises(ConfigError, match=said) as refused:
        read_keys(reference, environ)
    assert "0123456789" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1:8000/v1/likes/score", "http://127.0.0.1:8000/v1"])
def test_parity_asks_for_the_address_of_a_server(url):
    with pytest.raises(ConfigError, match="is no address of a server"):
        parity(None, {}, [], None, url, "", None, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has several heaps")
def test_threads_take_memory_from_one_heap():
    code = """
import ctypes, threading
from lakehouse.engines.threads import share_one_heap
{}
libc, meet = ctypes.CDLL(None), threading.Barrier(4)
def take():
    meet.wait()
    libc.malloc(1_000)
    meet.wait()
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
libc.malloc_stats()
"""
    said = {}
    for call in ("", "share_one_heap()"):
        command = [sys.executable, "-c", code.format(call)]
        said[call] = subprocess.run(command, capture_output=True, text=True, check=True).stderr.count("Arena ")
    assert said["share_one_heap()"] == 1 < said[""]
