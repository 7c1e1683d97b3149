"""The server's first process: it keeps the watcher and the workers, and replaces workers once others have begun.

With `gunicorn_server` the only importer of Gunicorn.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from lakehouse.errors import LakehouseError, as_ours
from lakehouse.serving import beginning, counting, watching
from lakehouse.serving.beginning import Patience
from lakehouse.serving.server import LOG

_MISSING_SECONDS = 30.0
"""At most so long after it could not begin, a worker that takes another's place is tried again."""


class Application(Protocol):
    """What workers are forked with: what was made ready under `number`."""

    number: str
    root: Path

    def take_up(self, number: str) -> None:
        """Load what was made ready under this number. Raises LakehouseError, OSError; then nothing has changed."""

    def go_back(self) -> None:
        """Have what there was before."""


class Master(Arbiter):  # type: ignore[misc]  # Gunicorn has no types
    """Gunicorn's own, but for how workers are replaced by what the watcher has made ready.

    Those that have something new take the place of those before once all of them have begun. Where one can't, those
    before go on, and it is tried again ever more seldom; at the first start the server ends, by `ended_by`.
    """

    def __init__(self, app: Application, watcher: watching.Watcher, begun: Callable[[], None]) -> None:
        """`begun`: called once all workers have begun for the first time."""
        self.watcher, self.begun = watcher, begun
        self.served, self.failed = "", ""
        self.new, self.missing = Patience(watching.MOST_SECONDS), Patience(_MISSING_SECONDS)
        self.trouble: LakehouseError | None = None
        self.ended_by: LakehouseError | None = None
        super().__init__(app)

    def spawn_worker(self) -> int:
        process: int = super().spawn_worker()  # in the worker it doesn't return
        self.WORKERS[process].number = self.app.number
        return process

    def worker_ended(self, worker: Any) -> None:
        """Called for each that has ended."""
        counting.worker_ended(worker.pid)
        error = beginning.why_not(self.app.root, worker.pid)
        if error is not None and worker.number == self.app.number:
            self.trouble = self.trouble or error

    def manage_workers(self) -> None:
        """Called once a second at least, and when a worker has begun or ended."""
        self.watcher.keep_alive()
        if self.trouble is not None:
            self._stand_back(self.trouble)
        current = watching.current_number(self.app.root)
        settled = self.app.number == self.served  # what is taken up is first brought to an end, good or bad
        if settled and current != self.served and not (current == self.failed and self.new.waits):
            self._take_up(current)
        if not self.missing.waits:
            if len(self._fresh()) == len(self.WORKERS):
                super().manage_workers()
            else:
                for _ in range(self.num_workers - len(self._fresh())):
                    self.spawn_worker()
        self._relieve()

    def handle_hup(self) -> None:
        """All is made ready anew; what is ready is loaded as soon as it is there."""
        self.watcher.ask()

    def _fresh(self) -> list[Any]:
        return [worker for worker in self.WORKERS.values() if worker.number == self.app.number]

    def _take_up(self, number: str) -> None:
        """Load what was made ready, for the workers that are started next."""
        try:
            self.app.take_up(number)
        except (LakehouseError, OSError) as error:
            self._leave_for_later(as_ours(error) or LakehouseError(str(error)), number)

    def _relieve(self) -> None:
        """Once all workers have begun that have what is taken up, end those before them."""
        fresh = self._fresh()
        if len(fresh) < self.num_workers or not all(beginning.has_begun(self.app.root, w.pid) for w in fresh):
            return
        self.missing.forget()
        if self.served != self.app.number:
            if not self.served:
                self.begun()
            self.served, self.failed = self.app.number, ""
            self.new.forget()
            watching.say_served(self.app.root, self.served)
        self._end_others()

    def _end_others(self) -> None:
        for process, worker in list(self.WORKERS.items()):
            if worker.number != self.app.number and not getattr(worker, "told", False):
                worker.told = True
                self.kill_worker(process, signal.SIGTERM)

    def _stand_back(self, error: LakehouseError) -> None:
        """A worker could not begin."""
        self.trouble = None
        if not self.served:
            self.ended_by = error
            raise HaltServer(None, error.exit_code)
        if self.app.number != self.served:
            number = self.app.number
            self.app.go_back()
            self._leave_for_later(error, number)
            self._end_others()
        else:
            LOG.error("a worker is missing, and is tried again in %.0f s: %s", self.missing.wait_longer(), error)

    def _leave_for_later(self, error: LakehouseError, number: str) -> None:
        self.failed = number
        said = "what is served stays as it is, and what is new is tried again in %.0f s: %s"
        LOG.error(said, self.new.wait_longer(), error)
