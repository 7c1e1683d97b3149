"""The command `lakehouse score` as a task runs it: words, process, what an exit code means. Needs no Airflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

Outcome = Literal["success", "skip", "retry", "fail"]


def outcome(code: int, not_ready: Literal["retry", "skip"] = "retry") -> Outcome:
    """What a task makes of an exit code; a negative one is the signal that the command died of.

    A run that was stopped or killed is tried again: nothing is scored or published twice. What a person has to mend
    is not: configuration (2), checks (3), model (4), a defect (1).
    """
    if code == 0:
        return "success"
    if code == 6:
        return not_ready
    return "retry" if code in (5, 130, 143) or code < 0 else "fail"


def words(
    command: str | Sequence[str],
    conf: str,
    date: str | None,
    engine: str | None,
    project_dir: str | None,
    extra: Sequence[str],
) -> list[str]:
    """The command line; its last object on stdout is the run's result."""
    first = [command] if isinstance(command, str) else [*command]
    options = {"--date": date, "--engine": engine, "--project-dir": project_dir}
    given = [word for option, value in options.items() if value for word in (option, value)]
    return [*first, "score", conf, *given, *extra, "--json"]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for another Python: without what makes that one import from here."""
    return {**{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}, **more}


def run(
    line: Sequence[str],
    environ: Mapping[str, str],
    say: Callable[[str], object],
    started: Callable[[subprocess.Popen[str]], object],
) -> tuple[int, dict[str, Any]]:
    """Run a command; its exit code, and the object on its stdout, empty where there is none.

    `say` is given each line that it logs, as it comes; `started` the process. It is stopped if this is interrupted.
    """
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            line, env=environ, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        )
        started(process)
        try:
            for text in process.stderr or ():
                say(text.rstrip())
            code = process.wait()
        except BaseException:
            stop(process)
            process.wait()
            raise
        finally:
            if process.stderr is not None:
                process.stderr.close()
        out.seek(0)
        return code, _object(out.read())


def stop(process: subprocess.Popen[str], patience: float = 60) -> None:
    """SIGTERM, on which the command says what it leaves and ends; after `patience` seconds all of its processes go."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
