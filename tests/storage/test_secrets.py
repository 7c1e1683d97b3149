"""Secrets of storage systems: what a variable may say, and that no message shows one."""

from __future__ import annotations

import pickle

import pytest

from lakehouse.errors import ConfigError, Unavailable
from lakehouse.storage import locate

TOKEN = "sv=2021-08-06&sp=rl&sig=a%2Fb%3D"
TABLE = "abfss://c@account.dfs.core.windows.net/t"


@pytest.fixture
def told(monkeypatch):
    """What the Delta library is told of the account's secret, with these variables set."""

    def look(**variables: str) -> dict[str, str]:
        for name in (
            "AZURE_STORAGE_KEY",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURITE_BLOB_STORAGE_URL",
        ):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        options = locate(TABLE).delta_options()
        return {k: v for k, v in options.items() if k.endswith(("key", "token"))}

    return look


def test_a_variable_holds_a_secret_or_refers_to_it(told, tmp_path):
    signed = {"azure_storage_sas_token": f"?{TOKEN}"}
    assert told(AZURE_STORAGE_SAS_TOKEN=TOKEN) == signed
    assert told(AZURE_STORAGE_SAS_TOKEN=f"?{TOKEN}") == signed
    assert told(AZURE_STORAGE_SAS_TOKEN="env:MINE", MINE=TOKEN) == signed
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert told(AZURE_STORAGE_SAS_TOKEN=f"file:{tmp_path}/token") == signed
    (tmp_path / "token").write_text("sig=renewed")
    assert told(AZURE_STORAGE_SAS_TOKEN=f"file:{tmp_path}/token") == {"azure_storage_sas_token": "?sig=renewed"}
    assert told(AZURE_STORAGE_KEY="env:MINE", MINE="a2V5") == {"azure_storage_account_key": "a2V5"}
    assert told() == {}


def test_a_key_comes_before_a_signature(told):
    assert told(AZURE_STORAGE_KEY="a2V5", AZURE_STORAGE_SAS_TOKEN=TOKEN) == {"azure_storage_account_key": "a2V5"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("env:NONE_SUCH", "it refers to the environment variable NONE_SUCH, which is not set"),
        ("file:none/such", "the file none/such, which it refers to, can't be read: No such file or directory"),
        ("file:empty", "the file empty, which it refers to, is empty"),
    ],
)
def test_a_secret_that_is_not_there_is_named(told, workspace, given, said):
    (workspace / "empty").write_text("\n")
    with pytest.raises(ConfigError) as refused:
        told(AZURE_STORAGE_SAS_TOKEN=given)
    assert str(refused.value) == f"AZURE_STORAGE_SAS_TOKEN: {said}"


def test_no_message_shows_a_signature():
    said = "error sending request for url (https://a.blob.core.windows.net/c?sv=1&sig=a%2Fb%3D&comp=list): refused"
    error = Unavailable(said)
    assert str(error) == said.replace("a%2Fb%3D", "…")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    presigned = "GET https://b.s3.amazonaws.com/k?X-Amz-Expires=1&X-Amz-Signature=0a1b2c"
    assert str(ConfigError(presigned)) == presigned.replace("0a1b2c", "…")
    assert str(ConfigError("model.signature=a, signature=b")) == "model.signature=a, signature=b"
