"""Google Cloud Storage: credentials by Google's own chain (GOOGLE_APPLICATION_CREDENTIALS, gcloud, the machine's)."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar
from urllib.parse import urlsplit

import pyarrow.fs as pa_fs

from lakehouse.storage.location import DELTA_PATIENCE, PATIENCE_S, Location, bucket_and_folder


@dataclass(frozen=True)
class Gcs(Location):
    """A folder in a bucket of Google's, or of the emulator that STORAGE_EMULATOR_HOST of the driver names."""

    endpoint: str = ""

    system: ClassVar[str] = "Google Cloud Storage"
    remote: ClassVar[bool] = True
    spark_may_overwrite: ClassVar[bool] = False  # its log store puts conditionally too
    # Google's own; that of Hadoop itself (hadoop-gcp) knows no other server than Google's.
    hadoop_jars: ClassVar[str] = "com.google.cloud.bigdataoss:gcs-connector:4.0.4:shaded"
    hadoop_settings: ClassVar[Mapping[str, str]] = {
        "fs.gs.impl": "com.google.cloud.hadoop.fs.gcs.GoogleHadoopFileSystem",
        "fs.AbstractFileSystem.gs.impl": "com.google.cloud.hadoop.fs.gcs.GoogleHadoopFS",
        "fs.gs.auth.type": "APPLICATION_DEFAULT",
        # Hadoop's defaults for its own one, as 64m: this one reads numbers only.
        "fs.gs.block.size": f"{64 << 20}",
        "fs.gs.rewrite.max.chunk.size": f"{512 << 20}",
        "fs.gs.outputstream.buffer.size": f"{8 << 20}",
        "fs.gs.inputstream.inplace.seek.limit": f"{8 << 20}",
        "fs.gs.inputstream.min.range.request.size": f"{2 << 20}",
    }
    jars_option: ClassVar[str] = "--gs"
    lists_folders: ClassVar[bool] = False  # Arrow sees only folders that have an object of their own

    def filesystem(self) -> pa_fs.FileSystem:
        return _filesystem(self.endpoint)

    def delta_options(self) -> dict[str, str]:
        """Commits are puts with `x-goog-if-generation-match: 0`; the library needs no telling."""
        if not self.endpoint:
            return dict(DELTA_PATIENCE)
        # `google_skip_signature` would do for reads only: its writes ask for a token all the same.
        nobody = {"gcs_base_url": self.endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
        account = json.dumps(nobody | {"private_key_id": ""})
        plain = {"allow_http": "true"} if self.endpoint.startswith("http:") else {}
        return {"google_service_account_key": account} | DELTA_PATIENCE | plain

    def hadoop_options(self) -> dict[str, str]:
        if not self.endpoint:
            return {}
        return {"fs.gs.auth.type": "UNAUTHENTICATED", "fs.gs.storage.root.url": f"{self.endpoint}/"}


def located(table: str) -> Gcs:
    bucket, folder = bucket_and_folder(table)
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    endpoint = emulator if "://" in emulator or not emulator else f"http://{emulator}"
    return Gcs(f"gs://{bucket}/{folder}", f"{bucket}/{folder}", endpoint)


@functools.lru_cache(maxsize=8)
def _filesystem(endpoint: str) -> pa_fs.FileSystem:
    limit = timedelta(seconds=PATIENCE_S)  # else a quarter of an hour
    if not endpoint:
        return pa_fs.GcsFileSystem(retry_time_limit=limit)
    host = urlsplit(endpoint)
    return pa_fs.GcsFileSystem(
        anonymous=True, scheme=host.scheme, endpoint_override=host.netloc, retry_time_limit=limit
    )
