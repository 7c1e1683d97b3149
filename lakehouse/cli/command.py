"""What all commands have in common: `answering` runs one, shows its answer, and reports whatever ends it early."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from lakehouse.cli import outputs
from lakehouse.cli.stopping import handle_sigterm, stop_error
from lakehouse.errors import ConfigError, LakehouseError, as_ours, without_signatures
from lakehouse.views import logs

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.pipeline import Result
    from lakehouse.storage import Location

_JAVA_STACK = re.compile(r"^\s*(?:at [\w.$/<>]+\([^)]*\)|\.\.\. \d+ more)\n", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """What a command has to say once its work is done.

    `content` is printed as JSON with --json, indented by `indent`; otherwise people see what `text` returns, which is
    called only then. `notes` are lines for people that come before the text, with --json on stderr. `code` is the exit
    code.
    """

    content: Any = None
    text: Callable[[], str] | None = None
    notes: Sequence[str] = ()
    code: int = 0
    indent: int | None = None


@dataclass
class Attempt:
    """What is known so far of the run that a command is about, for the JSON object that it leaves however it ends.

    `run_id` is empty where the command starts no run; `outcome` is there once the run has ended; `copy` is a file to
    which the object is written too.
    """

    conf: str
    date: str | None
    engine: str | None
    run_id: str = ""
    job: Job | None = None
    outcome: Result | None = None
    copy: Location | None = None
    lines: Lines | None = None

    def about(self) -> dict[str, Any]:
        """What tells the run from others in structured lines."""
        named = self.job.job if self.job else Path(self.conf).stem
        values = {name: str(value) for name, value in self.job.slice.items()} if self.job else {}
        return {"job": named, "run_id": self.run_id, "date": self.date, "slice": values}


class Lines:
    """Objects that a command prints with --json while it works, one a line, before its last one."""

    def __init__(self, as_json: bool) -> None:
        self._to = os.fdopen(os.dup(1), "w") if as_json else None

    def emit(self, content: Any) -> None:
        """Print an object at once; nothing without --json."""
        if self._to is not None:
            print(json.dumps(content, default=str), file=self._to, flush=True)

    def close(self) -> None:
        """End it, once the command's work is done."""
        if self._to is not None:
            self._to.close()


def answering(function: Callable[..., Answer]) -> Callable[..., None]:
    """Make a command of a function that returns an Answer.

    The command begins in the folder of --project-dir and shows the answer. An error, Ctrl-C or SIGTERM becomes one
    message on stderr, the JSON object and the exit code. A function whose first parameter is an Attempt is given one,
    and says in it what it finds out about its run: the JSON object of a failure is then that of a run. One whose first
    parameter is Lines can print objects while it works.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters = list(signature.parameters.values())
    first = parameters[0].annotation if parameters else None
    about_a_run, given = first is Attempt, first in (Attempt, Lines)

    @functools.wraps(function)
    def command(**options: Any) -> None:
        as_json = bool(options.get("as_json"))
        attempt = Attempt(options["conf"], options.get("date"), options.get("engine")) if about_a_run else None
        lines = Lines(as_json and given)
        if attempt is not None:
            attempt.lines = lines
        log_format = options.get("log_format", "text")
        told = _Told(as_json, log_format == "json", attempt, {"conf": options.get("conf")})
        handle_sigterm()
        with logs.as_json() if told.in_lines else nullcontext():
            try:
                logs.require_known(log_format)
                _enter(options.get("project_dir"))
                outputs.require_writable(parameters, options)
                with _stdout_kept_for_the_object(as_json):
                    answer = function(attempt or lines, **options) if given else function(**options)
            except Exception as error:
                _fail(error, told)
            except KeyboardInterrupt as stop:
                _fail(stop_error(stop, _status_line(attempt)), told)
            finally:
                lines.close()
            _show(answer, told)

    command.__signature__ = signature.replace(parameters=parameters[given:])  # type: ignore[attr-defined]  # typer reads it
    return command


def result_as_json(result: Result) -> dict[str, Any]:
    """A result as the JSON object; the plan is part of it only after a dry run."""
    return {name: value for name, value in asdict(result).items() if name != "plan" or value is not None}


@contextmanager
def _stdout_kept_for_the_object(as_json: bool) -> Iterator[None]:
    """With --json what models and libraries print while a command works goes to stderr: from C and workers too."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _enter(folder: str | None) -> None:
    try:
        if folder is not None:
            os.chdir(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--project-dir {folder}: {getattr(error, 'strerror', None) or error}") from None


@dataclass(frozen=True)
class _Told:
    """How a command tells people and programs what it has to say; `in_lines`: stderr gets structured lines."""

    as_json: bool
    in_lines: bool
    attempt: Attempt | None
    command: Mapping[str, Any]

    def line(self, event: str, message: str, values: Any = None, level: str = "") -> None:
        """Log a structured line about the command's run."""
        about = self.attempt.about() if self.attempt else self.command
        logs.line(event, message, about, values if isinstance(values, Mapping) else None, level)

    def note(self, text: str, event: str = "note", *, err: bool = True) -> None:
        """Say a line for people."""
        if self.in_lines:
            self.line(event, text)
        else:
            typer.echo(text, err=err)


def _show(answer: Answer, told: _Told) -> None:
    _emit(answer.content, told, answer.indent)
    for note in answer.notes:
        told.note(note, err=told.as_json)
    if answer.text is not None and not told.as_json:
        typer.echo(answer.text())
    if told.in_lines:
        content = answer.content if isinstance(answer.content, Mapping) else {}
        said = ": ".join(str(content[key]) for key in ("status", "message") if content.get(key))
        told.line("ended", said, content, "error" if answer.code else "")
    raise typer.Exit(answer.code)


def _fail(error: Exception, told: _Told) -> NoReturn:
    """Report an error and leave with its exit code; a defect with its traceback, all with theirs by LAKEHOUSE_DEBUG."""
    from lakehouse.engines.quiet import shows_everything

    ours, debug, attempt = as_ours(error), shows_everything(), told.attempt
    status = ours.status if ours is not None else "failed"
    content = _exit_message(error, attempt) if attempt else {"status": status, "message": _message(error)}
    text = "".join(traceback.format_exception(error)) if ours is None or debug else ""
    text = without_signatures(text if debug else _JAVA_STACK.sub("", text))
    if told.in_lines:
        told.line("ended", f"{content['status']}: {content['message']}", content | {"traceback": text}, "error")
    else:
        typer.echo(text, err=True, nl=False)
    if ours is not None and not told.in_lines:
        typer.echo(f"{content['status'].replace('_', ' ')}: {ours}", err=True)
    _emit(content, told)
    raise typer.Exit(ours.exit_code if ours is not None else 1) from None


def _status_line(attempt: Attempt | None) -> str:
    """What a stop leaves of a run, as far as its command knows."""
    if attempt is None or not attempt.run_id:
        return ""
    ended = attempt.outcome
    return "nothing of this run was published" if ended is None else f"the run was {ended.status} before"


def _exit_message(error: Exception, attempt: Attempt) -> dict[str, Any]:
    """The object of a run that ended with an error: the run's own result where there is one.

    The error's own result may be that of an earlier run, which this one was about to finish: that is left out.
    """
    from lakehouse.pipeline import Result

    outcome = attempt.outcome
    found = outcome or getattr(error, "result", None)
    status = error.status if isinstance(error, LakehouseError) else "failed"
    name = attempt.job.job if attempt.job else Path(attempt.conf).stem
    own = found if isinstance(found, Result) and (found is outcome or found.run_id == attempt.run_id) else None
    base = own or Result(status, attempt.run_id, name, attempt.date, engine=attempt.engine)
    return result_as_json(replace(base, message=_message(error)))


def _message(error: Exception) -> str:
    ours = as_ours(error)
    return str(ours) if ours is not None else without_signatures(f"{type(error).__name__}: {error}")


def _emit(content: Any, told: _Told, indent: int | None = None) -> None:
    """Print the object where it is asked for, and write it to the attempt's copy; where that fails the run stands."""
    copy = told.attempt.copy if told.attempt else None
    if not told.as_json and copy is None:
        return
    text = json.dumps(content, default=str, indent=indent)
    if told.as_json:
        typer.echo(text)
    if copy is None:
        return
    from lakehouse.storage import display_name, write_durably

    try:
        write_durably(copy, text.encode() + b"\n")
    except (LakehouseError, OSError) as error:
        said = f"--result {display_name(copy)} can't be written: {error}"
        told.note(said if told.in_lines else f"warning: {said}", "warning")
