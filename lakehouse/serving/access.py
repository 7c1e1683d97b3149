"""Who may ask: API keys, given by an environment variable or a file, never by the job file or the command line."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from lakehouse.errors import ConfigError
from lakehouse.references import text_of
from lakehouse.serving.messages import Refusal

Keys = Mapping[str, bytes]
"""By the name of who has it the SHA-256 of each key; none: everybody may ask."""
NO_REFERENCE = "--keys: name where the keys are, env:NAME or file:PATH, not the keys themselves"
_LEAST = 16


def read_keys(reference: str | None, environ: Mapping[str, str] | None = None) -> Keys:
    """The keys that `env:NAME` or `file:PATH` refer to: one a line or between commas, each `name=key` or a key alone.

    Raises ConfigError, which shows no key.
    """
    found: dict[str, bytes] = {}
    for name, key in _named(reference, environ) if reference is not None else ():
        if name in found:
            raise ConfigError(f"--keys {reference}: two keys are called {name}")
        if len(key) < _LEAST:
            raise ConfigError(f"--keys {reference}: the key {name} has less than {_LEAST} characters")
        found[name] = hashlib.sha256(key.encode()).digest()
    return found


def first_key(reference: str, environ: Mapping[str, str] | None = None) -> str:
    """The first of the keys that are referred to, for whoever asks a server. Raises ConfigError."""
    return _named(reference, environ)[0][1]


def _named(reference: str, environ: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """(name, key) of each; a key without a name is called by its number."""
    text = text_of(reference, "--keys", NO_REFERENCE, environ)
    found = []
    for number, line in enumerate(filter(None, map(str.strip, re.split(r"[\n,]", text))), 1):
        name, _, key = line.partition("=")
        named = key and re.fullmatch(r"[\w.-]{1,40}", name)
        found.append((name, key) if named else (f"key{number}", line))
    if not found:
        raise ConfigError(f"--keys {reference}: there is no key in it")
    return found


def require_key(keys: Keys, headers: Mapping[str, str]) -> str:
    """Who asks, by the key in `Authorization: Bearer` or `X-API-Key`; empty where there are no keys.

    Every key is compared, each in constant time. Raises Refusal (401).
    """
    if not keys:
        return ""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
    digest = hashlib.sha256(given.encode(errors="replace")).digest()
    found = [name for name, key in keys.items() if hmac.compare_digest(key, digest)]
    if not given or not found:
        said = "this key is not known" if given else "send a key, as Authorization: Bearer KEY or X-API-Key: KEY"
        raise Refusal(401, said, WWW_Authenticate="Bearer")
    return found[0]
