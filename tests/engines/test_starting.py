"""Spark of our own that starts in the background: taken over, given up, or asked for with other settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

SCRIPT = """
import os
import signal

from lakehouse.engines.spark import sessions, starting


def java():
    found = [p for p in os.listdir("/proc") if p.isdigit()]
    names = {}
    for p in found:
        try:
            text = open(f"/proc/{p}/stat").read()
        except OSError:
            continue
        names[int(p)] = (text[text.index("(") + 1 : text.rindex(")")], int(text.rpartition(")")[2].split()[1]),
                         text.rpartition(")")[2].split()[0])
    return [p for p, (name, parent, state) in names.items() if name == "java" and parent == os.getpid() and state != "Z"]


def begin(delta):
    sessions.begin(delta)
    assert starting._underway, "nothing was begun"
    return starting._underway[0]


first = begin(False)
sessions.abandon()
assert java() == [], "the JVM of a start that was given up lives on"
second = begin(False)
with sessions.session(delta=False) as spark:
    assert spark is second.session, "another session than the one that was begun"
    assert sessions.is_ours()
    assert spark.range(7).count() == 7
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler) and handler is not signal.default_int_handler, "Ctrl-C does not stop Spark's jobs"
print("done")
"""
BY_ANOTHER = """
from lakehouse.engines.spark import sessions, starting

sessions.begin(False)
wrong = starting._underway[0]
with sessions.session(delta=True) as spark:
    assert spark is not wrong.session
    assert "delta" in spark.conf.get("spark.sql.extensions").lower()
    assert spark.range(7).count() == 7
print("done")
"""


@pytest.mark.parametrize("script", [SCRIPT, BY_ANOTHER], ids=["given up, then taken", "with other settings"])
def test_a_start_in_the_background(script, workspace):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-2000:]
