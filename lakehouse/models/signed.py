"""Signatures of models (OpenSSF Model Signing): who vouches for the files, before anything looks into them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ConfigError, ModelRefused

if TYPE_CHECKING:
    from lakehouse.config import SignedBy

FILE = "model.sig"
"""Where the signature lies: in the model's own folder, so that it is fetched, digested and shipped with it."""


_WANTED = "it is the signer's public key, on an elliptic curve, as PEM"


def require_signed(path: Path, signed_by: SignedBy, uri: str) -> None:
    """Raise ModelRefused unless the holder of the key has signed every file in the folder, and nothing has changed.

    Raises ConfigError where the key can't be read, or the library is not installed.
    """
    try:
        from model_signing import hashing, verifying
    except ImportError as error:
        raise ConfigError("model.signed_by needs model-signing: pip install 'lakehouse[signing]'") from error

    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=signed_by.key)
    except Exception as error:
        raise ConfigError(
            f"model.signed_by: {signed_by.key} can't be read as a public key: {error}; {_WANTED}"
        ) from error
    signature = path / FILE
    if not signature.is_file():
        raise ModelRefused(f"{uri} is not signed: it has no {FILE}, and model.signed_by asks for one")
    hashed: Any = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    hashed.set_ignored_paths(paths=[signature], ignore_git_paths=False)
    hashed.add_ignored_paths = lambda **named: None  # a signature may leave files out, which then anybody may add
    try:
        verifier.set_hashing_config(hashed).verify(path, signature)
    except Exception as error:
        raise ModelRefused(f"{uri} is not what the holder of {signed_by.key} signed: {_in_one_line(error)}") from error


def _in_one_line(error: Exception) -> str:
    """What the library says, without the bytes of digests."""
    text = " ".join(str(error).split(": Expected ")[0].split()).replace("\\", "")
    return text.removeprefix("Signature mismatch: ").strip('[]"') or type(error).__name__
