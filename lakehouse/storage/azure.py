"""Azure's Blob and Data Lake storage: account, and key or signature, as for Azure's command line, or an identity."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

import pyarrow.fs as pa_fs

from lakehouse.errors import ConfigError
from lakehouse.storage.location import DELTA_PATIENCE, BeyondSpark, bucket_and_folder
from lakehouse.storage.secrets import secret_of

_HOST = ".dfs.core.windows.net"
_SECRETS = {
    "account_key": ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"),
    "sas_token": ("AZURE_STORAGE_SAS_TOKEN",),
}
"""What both libraries call a secret, and the variables that hold it or refer to it; the first that is set counts."""


@dataclass(frozen=True)
class Azure(BeyondSpark):
    """A folder in a container of an account, or of the emulator that AZURITE_BLOB_STORAGE_URL of the driver names."""

    account: str = ""
    endpoint: str = ""

    system: ClassVar[str] = "Azure's storage"

    def filesystem(self) -> pa_fs.FileSystem:
        return _filesystem(self.account, self.endpoint, **_secret())

    def delta_options(self) -> dict[str, str]:
        """Commits are puts with `If-None-Match: *`; the library needs no telling."""
        # It takes the emulator's address from the environment only, and without being told of an emulator it lists
        # from a name on, which Azurite doesn't know.
        emulator = {"azure_storage_use_emulator": "true"} if self.endpoint else {}
        secret = {f"azure_storage_{name}": value for name, value in _secret().items()}
        return {"azure_storage_account_name": self.account} | secret | DELTA_PATIENCE | emulator


def _secret() -> Mapping[str, str]:
    """The secret of this process's environment; without one, both libraries look for an identity themselves.

    Raises ConfigError where it is referred to and isn't there.
    """
    for option, names in _SECRETS.items():
        for name in names:
            if given := os.environ.get(name):
                value = secret_of(given, name)
                # Arrow appends a signature to addresses as it is; Delta's library takes it with or without the mark.
                return {option: f"?{value.removeprefix('?')}" if option == "sas_token" else value}
    return {}


def located(table: str) -> Azure:
    """`abfss://container@account.dfs.core.windows.net/folder`, or `az://container/folder` of AZURE_STORAGE_ACCOUNT."""
    bucket, folder = bucket_and_folder(table)
    container, _, host = bucket.partition("@")
    own = os.environ.get("AZURE_STORAGE_ACCOUNT") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or ""
    if host and not host.endswith(_HOST):
        raise ConfigError(f"{table}: {host} is not supported yet, only abfss://container@account{_HOST}/folder is")
    account = host.removesuffix(_HOST) or own
    if not account:
        raise ConfigError(
            f"{table}: of which account? Write abfss://{container}@account{_HOST}/{folder} or set AZURE_STORAGE_ACCOUNT"
        )
    endpoint = os.environ.get("AZURITE_BLOB_STORAGE_URL", "").rstrip("/")
    return Azure(f"abfss://{container}@{account}{_HOST}/{folder}", f"{container}/{folder}", account, endpoint)


@functools.lru_cache(maxsize=8)
def _filesystem(account: str, endpoint: str, **secret: str) -> pa_fs.FileSystem:
    host = urlsplit(endpoint)
    places = {
        f"{service}_storage_{part}": value
        for service in ("blob", "dfs")
        for part, value in (("authority", host.netloc), ("scheme", host.scheme))
    }
    return pa_fs.AzureFileSystem(account, **secret, **(places if endpoint else {}))
