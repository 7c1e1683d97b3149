"""Secrets of storage systems: a variable of the environment holds one, or says where it is."""

from __future__ import annotations

import os
from pathlib import Path

from lakehouse.errors import ConfigError


def secret_of(given: str, variable: str) -> str:
    """The secret that a variable's value is, or refers to: `env:NAME`, another variable; `file:PATH`, read each time.

    Raises ConfigError where what it refers to is missing or empty; no message shows a secret.
    """
    kind, _, place = given.partition(":")
    if kind == "env":
        found = os.environ.get(place, "").strip()
        if not found:
            raise ConfigError(f"{variable}: it refers to the environment variable {place}, which is not set")
        return found
    if kind == "file":
        try:
            found = Path(place).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(f"{variable}: the file {place}, which it refers to, can't be read: {why}") from error
        if not found:
            raise ConfigError(f"{variable}: the file {place}, which it refers to, is empty")
        return found
    return given
