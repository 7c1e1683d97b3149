"""Ed25519: the key that runs are signed with, and whether a signature is one of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lakehouse.errors import ConfigError

HOW = "openssl genpkey -algorithm ed25519 -out"


@dataclass(frozen=True)
class Signer:
    """Signs with a private key, which nothing shows. `public`: the 32 bytes of its public one."""

    public: bytes
    sign: Callable[[bytes], bytes]


def signer_in(path: str) -> Signer:
    """What signs with the private key in a PEM file. Raises ConfigError where there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(path, "receipts.sign", f"`{HOW} {path}` makes a key")
    try:
        key = load_pem_private_key(content, None)
    except TypeError as error:
        raise ConfigError(f"receipts.sign: {path} is locked by a passphrase: give it a file without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"receipts.sign: {path} is no private key in PEM: `{HOW} FILE` makes one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"receipts.sign: {path} is not of Ed25519: `{HOW} FILE` makes a key that is")
    return Signer(key.public_key().public_bytes_raw(), key.sign)


def public_key_in(path: str) -> bytes:
    """The 32 bytes of the public key in a PEM file. Raises ConfigError where there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    how = "`openssl pkey -in KEY.pem -pubout` writes it of a private one"
    content = _read(path, "--public-key", how)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"--public-key: {path} is no public key in PEM: {how}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"--public-key: {path} is no public key of Ed25519: {how}")
    if is_weak(key.public_bytes_raw()):
        raise ConfigError(f"--public-key: {path} is a point of small order, of which anybody can sign: {how}")
    return key.public_bytes_raw()


_P = 2**255 - 19
_EIGHTH = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL = {0, 1, _P - 1, _EIGHTH, _P - _EIGHTH}
"""The y of the eight points of edwards25519 whose order divides 8 (RFC 8032, 5.1; RFC 7748 has the curve)."""


def is_weak(public: bytes) -> bool:
    """Whether a public key is a point of small order, which makes some signatures valid of any message."""
    return (int.from_bytes(public, "little") & (2**255 - 1)) % _P in _SMALL


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature is that of the key on the message, which a key of small order has of none."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if is_weak(public):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public: bytes) -> str:
    """A public key as people compare it."""
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def _read(path: str, key: str, how: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{key}: {path} can't be read ({error.strerror}): {how}") from error
