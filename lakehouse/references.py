"""Secrets that are referred to by where they are, `env:NAME` or `file:PATH`, and looked up where they are used."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from lakehouse.errors import ConfigError


def is_reference(text: str) -> bool:
    """Whether a text says where a secret is."""
    return re.match(r"(?:env|file):.", text) is not None


def text_of(reference: str, said: str, otherwise: str, environ: Mapping[str, str] | None = None) -> str:
    """The text that is there. `said`: the key or option that has the reference; `otherwise`: what is said of others.

    Raises ConfigError, which shows no secret.
    """
    kind, _, place = reference.partition(":")
    if kind == "env" and place:
        text = (os.environ if environ is None else environ).get(place)
        if text is None:
            raise ConfigError(f"{said} {reference}: the environment variable {place} is not set")
        return text
    if kind != "file" or not place:  # it may be a secret itself: it is not repeated
        raise ConfigError(otherwise)
    try:
        return Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{said} {reference}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
