"""Whether jobs could be run here: each is planned as a dry run does, step by step, and the model's versions come first.

Where versions alone decide, the input isn't looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse import pipeline
from lakehouse.config.messages import SHARED_FILE
from lakehouse.engines import scratch
from lakehouse.errors import ConfigError, ModelRefused, as_ours
from lakehouse.planning import environment, fetching, isolating, routes
from lakehouse.runs import ledger

if TYPE_CHECKING:
    from lakehouse.config import Job

STEPS = ("config", "model", "trust", "environment", "input", "signature", "suites", "sinks", "predictions")
"""What is looked at, as it is shown."""
OK, FAILED, UNKNOWN, SKIPPED = "ok", "failed", "unknown", "not looked at"
_WORST = (1, 4, 2, 3, 5, 6, 0)
"""Exit codes by how much they ask of a person."""


@dataclass
class Checked:
    """What was found out of a job: by step how it stands, and what there is to say of it.

    `replaces`: the tables that it replaces rows of, as the job has them, by the table's key and the slice's values.
    """

    conf: str
    job: str = ""
    code: int = 0
    status: str = OK
    message: str = ""
    steps: dict[str, str] = field(default_factory=lambda: dict.fromkeys(STEPS, SKIPPED))
    said: dict[str, str] = field(default_factory=lambda: dict.fromkeys(STEPS, ""))
    warnings: list[str] = field(default_factory=list)
    replaces: dict[tuple[str, ...], str] = field(default_factory=dict)
    _at: str = ""

    def enter(self, step: str, found: str) -> None:
        """The next step begins; `found`: what the one before it found."""
        if self._at:
            self.steps[self._at] = OK if self.steps[self._at] == SKIPPED else self.steps[self._at]
            self.said[self._at] = found or self.said[self._at]
        self._at = step

    def hear(self, event: str, values: Mapping[str, Any]) -> None:
        """Told of the planning's events, of which warnings are kept."""
        if event == "warning" and values["message"] not in self.warnings:
            self.warnings.append(values["message"])

    def fail(self, error: Exception) -> None:
        """The step that it is at has failed."""
        ours = as_ours(error)
        step = "model" if self._at == "trust" and not isinstance(error, ModelRefused) else self._at
        self.steps[step] = FAILED
        if step == "trust":  # whose refusal is of a model that was found
            self.steps["model"] = OK
        self.code, self.status = (1, FAILED) if ours is None else (ours.exit_code, ours.status)
        self.message = f"{type(error).__name__}: {error}" if ours is None else str(ours)

    def as_json(self) -> dict[str, Any]:
        """As an object."""
        steps = {name: {"status": self.steps[name], "found": self.said[name]} for name in STEPS}
        return {
            "conf": self.conf,
            "job": self.job,
            "status": self.status,
            "code": self.code,
            "message": self.message,
            "warnings": self.warnings,
            "steps": steps,
        }


def files(named: Sequence[str]) -> list[str]:
    """The job files that are named, those of a folder in the order of their names, without what they share.

    Raises ConfigError for a folder without any.
    """
    found: list[str] = []
    for name in named:
        if not Path(name).is_dir():
            found.append(name)
            continue
        inside = sorted(p for p in Path(name).iterdir() if p.suffix in (".yaml", ".yml") and p.name != SHARED_FILE)
        if not inside:
            raise ConfigError(f"{name}: there is no job file (*.yaml) in this folder")
        found += map(str, inside)
    return list(dict.fromkeys(found))


def warn_of_shared(checked: Checked, others: Sequence[Checked]) -> None:
    """Warn where a job publishes to the same rows of a table as one that was checked before."""
    for other in others:
        for place in checked.replaces.keys() & other.replaces.keys():
            rows = "".join(f", {row}" for row in place[2:])
            same = "as the same job they replace each other's scores"
            checked.warnings.append(
                f"{other.conf} publishes to {checked.replaces[place]} too{rows}: "
                f"{same if other.job == checked.job else 'whichever runs second is refused'}, give each a table or a "
                "slice of its own"
            )


def worst(codes: Sequence[int]) -> int:
    """The exit code of several jobs."""
    return min(codes, key=_WORST.index, default=0)


def check(
    conf: str, load: Callable[[], Job], engine: str, tell: Callable[[str], None] = lambda message: None
) -> Checked:
    """Check one job; `load` reads its file. Raises nothing: what is wrong is part of what is returned.

    `tell` is told of what takes long, such as an environment that is built.
    """
    checked = Checked(conf, job=Path(conf).stem)

    def say(event: str, values: Mapping[str, Any]) -> None:
        if event == "environment":
            tell(f"{conf}: {values['message']}")
        checked.hear(event, values)

    with _told(checked), scratch.folder() as folder:
        checked.enter("config", "")
        job = load()
        checked.job = job.job
        rows = [f"{name} = {value}" for name, value in job.slice.items()]
        checked.replaces = {
            (sink.type, sink.key_of(sink.table), *rows): sink.table for sink in job.sinks if sink.write == "replace"
        }
        checked.enter("trust", "")
        request = pipeline.Request(
            engine, ledger.now(), pipeline.new_run_id(), dry_run=True, say=say, enter=checked.enter
        )
        fetched = fetching.obtain(job, request, folder)
        checked.steps["model"] = OK
        checked.said["model"] = f"{ledger.title_of(fetched.describe())} sha256:{fetched.digest[:16]}…"
        checked.enter("environment", ", ".join(job.model.trust))
        found = routes.compare_environments(job, fetched, say)
        if found.isolated is not None:
            checked.said["environment"] = isolating.in_words(found.isolated, found.recorded)
        elif not found.recorded.is_known:
            checked.steps["environment"] = UNKNOWN
            checked.said["environment"] = "the model doesn't say with which versions it was logged"
        else:
            checked.said["environment"] = _versions(found)
        checked.enter("input", "")
        planned = pipeline.score(job, replace(request, fetched=fetched)).plan or {}
        if untried := planned.get(pipeline.UNTRIED):
            checked.steps["predictions"] = UNKNOWN
            checked.said["predictions"] = f"not tried: {untried}"
        checked.enter("", "")
    return checked


def _versions(found: environment.Environment) -> str:
    """The versions that decide, as they are here."""
    return ", ".join(f"{name} {found.here[name]}" for name in found.recorded.parts if name in found.recorded.versions)


@contextmanager
def _told(checked: Checked) -> Iterator[None]:
    """One job that is broken, in whatever way, doesn't stop the others."""
    try:
        yield
    except Exception as error:
        checked.fail(error)
