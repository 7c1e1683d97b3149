"""Messages to the receivers of a job's `notify`: one for each outcome that a receiver asks for, after the run's end."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http.client import HTTPException
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from lakehouse.observe.events import DISCARDED, ROLLED_BACK, Ended, Event, Observe, Run, Untold
from lakehouse.runs.results import at_version

if TYPE_CHECKING:
    from lakehouse.config.systems import Receiver

NAME = "notify"
_ANSWER_S = 2.0
_ATTEMPTS = 2
_PAUSE_S = 0.5
_LATER = 429
_FAULT = 500


@dataclass(frozen=True)
class Message:
    """What a receiver is told: an outcome of a run, and the figures that the run's page begins with.

    `outcome` is one of those of `notify.on`; `drift`: how many columns are beyond the job's limit, and the largest PSI.
    Parts that the run does not have are empty.
    """

    outcome: str
    at: datetime
    job: str
    run_id: str
    date: str | None
    slice: Mapping[str, str]
    status: str
    code: int
    message: str
    rows: Mapping[str, int]
    model: Mapping[str, Any]
    input: Mapping[str, Any]
    tables: tuple[Mapping[str, Any], ...]
    checks: Mapping[str, Any]
    drift: Mapping[str, Any]
    seconds: Mapping[str, float]
    engine: str

    @property
    def title(self) -> str:
        """The outcome in a few words."""
        return f"{self.outcome.replace('_', ' ').upper()}: {' '.join(filter(None, (self.job, self.date)))}"

    @property
    def facts(self) -> dict[str, str]:
        """What people read below the title, by name."""
        counted = {name: f"{count:,}" for name, count in self.rows.items()}
        rows = "read {read} = scored {scored} + quarantined {quarantined}".format(**counted) if counted else ""
        model = f"{self.model['name']} v{self.model['version']}" if self.model else ""
        far = f"{self.drift['columns']} columns, PSI up to {self.drift['psi']:.2f}" if self.drift.get("columns") else ""
        tables = ", ".join(map(at_version, self.tables))
        found = {"rows": rows, "model": model, "tables": tables, "drift": far, "run": self.run_id}
        return {name: text for name, text in found.items() if text}


class ReceiverModule(Protocol):
    """What a module of this package has that is named like a receiver's `type`."""

    def payload(self, message: Message) -> Mapping[str, Any]:
        """The JSON that the system takes."""


def observers(run: Run) -> dict[str, Callable[[], Observe]]:
    """The receivers of the job."""
    named = {f"notify.{number} ({one.type})": one for number, one in enumerate(run.job.notify)}
    return {name: partial(_begin, run, receiver) for name, receiver in named.items()}


def _begin(run: Run, receiver: Receiver) -> Observe:
    module = cast(ReceiverModule, import_module(f"lakehouse.observe.{receiver.type}"))

    def hear(event: Event) -> None:
        if isinstance(event, Ended):
            for outcome in outcomes(event, run):
                if outcome in receiver.on:
                    said = module.payload(message_of(outcome, event, run))
                    post(receiver.url.get_secret_value(), json.dumps(said, default=str).encode())

    return hear


def outcomes(ended: Ended, run: Run) -> list[str]:
    """What is told of a run that ended so; of one that was held, drift was told then.

    Where what a run did could not be taken back nothing has changed, and whoever asked for it knows.
    """
    if ended.status in (ROLLED_BACK, DISCARDED):
        return [ended.status]
    if run.undoes and not ended.earlier:
        return []
    if ended.status in ("published", "held", "blocked"):
        drifted = not run.goes_on and ended.drift.get("columns")
        return [ended.status, *(["drifted"] if drifted else [])]
    by_hand = type(ended.error) is KeyboardInterrupt  # whoever stopped it knows
    return [] if by_hand or ended.status in ("unchanged", "not_ready", "planned") else ["failed"]


def message_of(outcome: str, ended: Ended, run: Run) -> Message:
    """The message about an outcome."""
    result, job = ended.result, run.job
    mine = not ended.earlier  # another date's slice isn't known by the job of this one
    return Message(
        outcome=outcome,
        at=ended.at,
        job=job.job,
        run_id=ended.run_id,
        date=job.date if result is None else result.date,
        slice={name: str(value) for name, value in job.slice.items()} if mine else {},
        status=ended.status,
        code=ended.code,
        message=ended.message,
        rows=ended.rows,
        model=(result and result.model) or {},
        input=(result and result.input) or {},
        tables=tuple(result.sinks) if result is not None else (),
        checks=(result and result.checks) or {},
        drift=ended.drift,
        seconds=(result and result.seconds) or {},
        engine=run.engine,
    )


def post(url: str, body: bytes) -> None:
    """Send JSON. A second time where it was surely not taken: nobody answered the call, or the answer was a fault.

    Raises Untold, which does not name the URL.
    """
    said = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_S)
        try:
            _post(url, body)
            return
        except urllib.error.HTTPError as error:
            said = f"it answered {error.code} {error.reason}"
            if error.code != _LATER and error.code < _FAULT:
                break
        except urllib.error.URLError as error:
            said = f"it can't be reached: {getattr(error.reason, 'strerror', None) or type(error.reason).__name__}"
        except (TimeoutError, OSError, HTTPException) as error:  # it may have been taken
            raise Untold(f"it did not answer in time ({type(error).__name__})") from None
    raise Untold(said)


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would make a GET of it."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "lakehouse"}
    request = urllib.request.Request(url, body, headers, method="POST")
    with urllib.request.build_opener(_Stays).open(request, timeout=_ANSWER_S) as reply:
        reply.read(1 << 16)
