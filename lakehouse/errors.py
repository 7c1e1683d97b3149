"""The kinds of error a run can end with, and the exit code of each.

Everything a person can put right is one of these: its message says what was wrong, where, and what to do.
Any other exception is a defect and keeps its traceback (exit code 1).
"""

from __future__ import annotations

import difflib
import errno
import json
import re
from collections.abc import Iterable

_SIGNED = re.compile(r"([?&](?:sig|(?:X-\w+-)?Signature)=)[^&\s\"'<>()]+")


def without_signatures(text: str) -> str:
    """A text without the signatures in addresses that clouds' libraries write into their messages: they are secrets."""
    return _SIGNED.sub(r"\1…", text)


class LakehouseError(Exception):
    """Base of the errors that are reported as one message without a traceback, and without signatures in addresses."""

    exit_code = 1
    status = "failed"

    def __init__(self, *said: object) -> None:
        super().__init__(*(without_signatures(part) if isinstance(part, str) else part for part in said))


class ConfigError(LakehouseError):
    """The job file, the command line, or what they name is wrong (exit 2)."""

    exit_code = 2


class Blocked(LakehouseError):
    """The checks, or a person's change to the target, stand against publishing (exit 3).

    `result`: the outcome of the run, where rows were scored at all.
    """

    exit_code = 3
    status = "blocked"

    def __init__(self, message: str, result: object | None = None) -> None:
        super().__init__(message)
        self.result = result


class ModelRefused(LakehouseError):
    """The model may not, or cannot, be used: policy, signature, environment (exit 4)."""

    exit_code = 4


class Unavailable(LakehouseError):
    """An outside system could not be reached, or another writer came first: try again (exit 5)."""

    exit_code = 5


class Partial(Unavailable):
    """Some of a run's commits are made and the rest are not yet: the next run finishes them (exit 5)."""

    status = "partial"


class NotReady(LakehouseError):
    """The input is not there yet: try again later (exit 6)."""

    exit_code = 6
    status = "not_ready"


_OF_A_PATH = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EEXIST,
}
_OF_THE_MACHINE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EFBIG,
}


def machine_message(error: Exception) -> LakehouseError | None:
    """What a file system says of a path and its rights, or of its own state; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in _OF_A_PATH | _OF_THE_MACHINE:
        return None
    said = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror or error)
    return ConfigError(said) if error.errno in _OF_A_PATH else Unavailable(said)


def as_ours(error: BaseException) -> LakehouseError | None:
    """The error as one that a person can put right; None for a defect."""
    if isinstance(error, LakehouseError):
        return error
    return machine_message(error) if isinstance(error, Exception) else None


def nearest(name: str, choices: Iterable[str]) -> str:
    """Say the closest valid choice, or list them all: the tail of an error message."""
    known = sorted(set(choices))
    close = [choice for choice in known if choice.lower() == name.lower()]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"known: {shown}" if known else "there are none"


_PLAIN = re.compile(r"(?!(?:true|false|yes|no|on|off|y|n|null)$)[a-z_](?:[a-z0-9_. -]*[a-z0-9_.-])?", re.IGNORECASE)


def in_yaml(text: str) -> str:
    """A text as it may stand in a job file's braces and brackets: in quotes where it would be something else."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
