"""A command's steps as structured lines, for programs that gather logs: one JSON object a line, by Python's logging.

What other libraries log goes the same way meanwhile, so that whoever reads the lines need not tell two forms apart.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from lakehouse.errors import ConfigError

FORMATS = ("text", "json")
LOGGER = logging.getLogger("lakehouse")
_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR}


def require_known(log_format: str) -> None:
    """Raise ConfigError for a format that there isn't."""
    if log_format not in FORMATS:
        raise ConfigError(f"--log-format: {log_format!r} is none: use text or json")


@contextmanager
def as_json(stream: TextIO | None = None) -> Iterator[None]:
    """Write what is logged while the block runs as JSON lines to a stream, by default to stderr as it is then."""
    root, handler = logging.getLogger(), _Now(stream)
    handler.setFormatter(_Lines())
    before = LOGGER.level
    root.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        LOGGER.setLevel(before)


def line(event: str, message: str, about: Mapping[str, Any], values: Mapping[str, Any] | None = None,
         level: str = "") -> None:  # fmt: skip
    """Log a line. `about`: the run that it is about; `level`: warning or error, where the event doesn't say so."""
    number = _LEVELS.get(level or event, logging.INFO)
    LOGGER.log(number, "%s", message, extra={"event": event, "about": dict(about), "values": dict(values or {})})


class _Now(logging.StreamHandler):  # type: ignore[type-arg]  # generic for the type checker only
    """Writes to the stream that it was given, else to what stderr is when there is something to write."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._given = stream

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._given or sys.stderr
        super().emit(record)


class _Lines(logging.Formatter):
    """A record as JSON; the keys are listed in lakehouse/observe/README.md."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "message": record.getMessage(),
            **{name: value for name, value in getattr(record, "about", {}).items() if value not in (None, "", {})},
        }
        if values := getattr(record, "values", {}):
            said["values"] = values
        if record.name != LOGGER.name:
            said["logger"] = record.name
        if record.exc_info:
            said["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(said, default=str, ensure_ascii=False)
