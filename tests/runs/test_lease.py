"""A run's lease: what it says while it is renewed, and that it ends with the run."""

from __future__ import annotations

import threading

from lakehouse.runs import lease
from lakehouse.storage import locate

RUN = "00000000-0000-4000-8000-000000000001"


def test_renewals_say_the_same_and_go_on_after_one_that_failed(tmp_path, monkeypatch):
    table, state = locate(str(tmp_path / "scores")), locate(str(tmp_path / "state"))
    renewed, said, write = threading.Event(), list[object](), lease._write

    def renew(*given, **more):
        said.append(more)
        if len(said) == 2:
            raise OSError("busy")
        write(*given, **more)
        if len(said) == 4:
            renewed.set()

    monkeypatch.setattr(lease, "EVERY", 0.01)
    monkeypatch.setattr(lease, "_write", renew)
    with lease.hold([table], RUN, state, lambda message: None, restores=True):
        assert renewed.wait(30)
        found = lease.read(table, RUN)
        assert (found["restores"], found["state"]) == (True, state.uri)
        assert RUN in lease.alive_runs(table, {RUN: found})
    assert lease.read(table, RUN) is None
    assert not (tmp_path / "scores" / f"run-{RUN}").exists()
