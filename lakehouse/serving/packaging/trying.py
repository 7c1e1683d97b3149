"""A package tried in a process of its own, with nothing but the package: it has to answer as the job does here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from lakehouse.errors import ModelRefused
from lakehouse.serving.limits import Limits
from lakehouse.serving.prepared import Prepared
from lakehouse.serving.sample import answers_to_sample
from lakehouse.serving.server import server_for

_SECONDS = 300
_CHILD = """
import sys, time
began = time.perf_counter()
sys.path.insert(0, sys.argv[1])
from lakehouse.serving.sample import main
main(sys.argv[1], began)
"""
_MISSING = re.compile(r"No module named '(\w+)[\w.]*'")


class Missing(Exception):
    """A module that is not in the package, and without which it doesn't answer."""

    def __init__(self, module: str, said: str) -> None:
        super().__init__(f"the package lacks {module}")
        self.module, self.said = module, said


def answers_here(prepared: Prepared) -> dict[str, Any]:
    """What the job answers to its own row in this process."""
    return answers_to_sample(server_for([prepared], Limits(), {}, looks_up=False), prepared.job)


def try_package(folder: Path, expected: dict[str, Any], *, alone: bool) -> float:
    """Have the package in this folder answer a row in each form; the seconds until it could, from its first import.

    `alone`: with no other libraries than its own. Raises ModelRefused where it doesn't answer as is expected, and
    Missing for a module that it lacks.
    """
    command = [sys.executable, "-I", "-B", *(["-S"] if alone else []), "-c", _CHILD, str(folder)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise ModelRefused(f"the package was tried, and has not answered in {_SECONDS} seconds") from error
    said = next((json.loads(line) for line in reversed(ended.stdout.splitlines()) if line.startswith("{")), None)
    if said is not None and said["answers"] == expected:
        return float(said["seconds"])
    if missing := _MISSING.search(ended.stdout + ended.stderr):
        raise Missing(missing[1], missing[0])
    if said is None:
        last = (ended.stderr.strip().splitlines() or ["no word"])[-1]
        raise ModelRefused(f"the package was tried in a process of its own, which ended with {last}")
    form = next(form for form in expected if said["answers"].get(form) != expected[form])
    shown = (json.dumps(answers.get(form))[:400] for answers in (said["answers"], expected))
    raise ModelRefused("the package was tried, and answers {} with {} instead of {}".format(form, *shown))
