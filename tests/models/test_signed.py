"""Models that must be signed: what the holder of the key signed is scored, and nothing that differs from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from model_signing import hashing, signing
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.config import Model, SignedBy
from lakehouse.errors import ConfigError, ModelRefused

X = pd.DataFrame({"a": np.arange(5.0)})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys, ours and theirs: `<name>` and `<name>.pub`."""
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
        (folder / name).write_bytes(private)
        public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


def sign(folder: Path, key: Path, *left_out: str) -> None:
    """Sign a model as `model_signing sign key` does."""
    file = folder / "model.sig"
    ignored = hashing.Config().set_ignored_paths(paths=[file, *(folder / name for name in left_out)])
    signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(ignored).sign(folder, file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mlflow.sklearn.save_model(
        LinearRegression().fit(X, X["a"]), tmp_path / "m", signature=infer_signature(X, X["a"]),
        pip_requirements=["scikit-learn"], skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    return tmp_path / "m"


@pytest.fixture
def fetch(folder: Path, keys: Path, tmp_path: Path) -> Callable[..., Any]:
    """fetch(key, **more) fetches the model, which the holder of the key must have signed."""

    def go(key: str = "ours.pub", **more: Any) -> Any:
        (tmp_path / "to").mkdir()
        config = Model(uri=str(folder), signed_by=SignedBy(key=str(keys / key)), **more)
        return models.fetch(config, models.resolve(config), tmp_path / "to")

    return go


def test_what_was_signed_is_scored(fetch: Callable[..., Any], folder: Path, keys: Path) -> None:
    sign(folder, keys / "ours")
    found = fetch()
    np.testing.assert_allclose(models.load(found.path, found.digest, None, ()).predict(X), X["a"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "model.skops").write_bytes((f / "model.skops").read_bytes() + b"\0"), "Hash mismatch for 'model.skops'"),
        (lambda f: (f / "MLmodel").write_text((f / "MLmodel").read_text() + "\n"), "Hash mismatch for 'MLmodel'"),
        (lambda f: (f / "requirements.txt").unlink(), "Missing files in model 'model': requirements.txt"),
        (lambda f: (f / "more.py").write_text(""), "Extra files found in model 'model': more.py"),
        (lambda f: (f / ".git").write_text(""), "Extra files found in model 'model': .git"),
        (lambda f: (f / "model.sig").write_text("{}"), "is not what the holder of"),
        (lambda f: (f / "model.sig").unlink(), "is not signed: it has no model.sig, and model.signed_by asks for one"),
    ],
    ids=["a byte", "the description", "a file less", "a file more", "a file that is left out by default", "no signature", "none"],
)  # fmt: skip
def test_what_differs_is_refused(fetch: Callable[..., Any], folder: Path, keys: Path, change: Any, said: str) -> None:
    sign(folder, keys / "ours")
    change(folder)
    with pytest.raises(ModelRefused) as refused:
        fetch(trust=("pickle", "code", "python_function"))
    assert (said in str(refused.value), "\n" in str(refused.value)) == (True, False), refused.value


def test_another_key_is_refused(fetch: Callable[..., Any], folder: Path, keys: Path) -> None:
    sign(folder, keys / "theirs")
    with pytest.raises(ModelRefused, match=r"is not what the holder of .*ours\.pub signed: "):
        fetch()


def test_a_file_that_was_left_out_of_the_signature_is_refused(
    fetch: Callable[..., Any], folder: Path, keys: Path
) -> None:
    sign(folder, keys / "ours", "conda.yaml")
    with pytest.raises(ModelRefused, match=r"Extra files found in model 'model': conda\.yaml"):
        fetch()


def test_a_signature_trusts_no_code(fetch: Callable[..., Any], folder: Path, keys: Path) -> None:
    text = (folder / "MLmodel").read_text().replace("serialization_format: skops", "serialization_format: pickle")
    (folder / "MLmodel").write_text(text)
    sign(folder, keys / "ours")
    with pytest.raises(ModelRefused, match="is stored as pickle"):
        fetch()


@pytest.mark.parametrize("key", ["nowhere.pub", "ours"])
def test_a_key_that_is_none_is_a_mistake(fetch: Callable[..., Any], folder: Path, keys: Path, key: str) -> None:
    sign(folder, keys / "ours")
    with pytest.raises(ConfigError, match=rf"model\.signed_by: .*{key} can't be read as a public key: .*, as PEM"):
        fetch(key)
