"""Run contestants in this process: once, or warm.

    python -m tests.benchmarks.contestants SETTING cold NAME TASK
    python -m tests.benchmarks.contestants SETTING warm

SETTING is JSON, TASK a file. Warm: a line `NAME TASK` on stdin is answered by `{"seconds": …}` or `{"error": …}` on
stdout, until stdin ends.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback

from tests.benchmarks.contestants import ALL, Score, Setting, read


def start(name: str, setting: Setting) -> Score:
    """What scores a task as this contestant."""
    family = importlib.import_module(f"tests.benchmarks.contestants.{ALL[name].module}")
    score: Score = family.start(name, setting)
    return score


def main() -> None:
    setting, mode, *rest = sys.argv[1:]
    given = Setting(**json.loads(setting))
    if mode == "cold":
        name, task = rest
        start(name, given)(read(task))
    else:
        serve(given)


def serve(setting: Setting) -> None:
    """Score as told on stdin. Whatever libraries print to stdout goes to stderr: only answers are on stdout."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    started: dict[str, Score] = {}
    for line in sys.stdin:
        name, path = line.split()
        try:
            if name not in started:
                started[name] = start(name, setting)
            task = read(path)
            began = time.perf_counter()
            started[name](task)
            answer = {"seconds": time.perf_counter() - began}
        except Exception:
            answer = {"error": traceback.format_exc()}  # type: ignore[dict-item]
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
