"""Amazon's S3 and what speaks like it: settings of AWS's own tools (AWS_ENDPOINT_URL, AWS_REGION), its credentials."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow.fs as pa_fs

from lakehouse.errors import Unavailable
from lakehouse.storage.location import ATTEMPTS, DELTA_PATIENCE, PATIENCE_S, Location, bucket_and_folder

_ALREADY_THERE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
"""How S3 refuses a file where one is, and one of two that come at the same time."""


@dataclass(frozen=True)
class S3(Location):
    """A folder in an S3 bucket, with endpoint and region where the environment of the driver names them."""

    endpoint: str = ""
    region: str = ""

    system: ClassVar[str] = "S3"
    remote: ClassVar[bool] = True
    hadoop_jars: ClassVar[str] = "org.apache.hadoop:hadoop-aws:{hadoop}"
    jars_option: ClassVar[str] = "--s3"

    def filesystem(self) -> pa_fs.FileSystem:
        return _filesystem(self.endpoint, self.region)

    def delta_options(self) -> dict[str, str]:
        told = {"conditional_put": "etag", "region": self.region, "endpoint_url": self.endpoint}
        plain = {"allow_http": "true"} if self.endpoint.startswith("http:") else {}
        return {k: v for k, v in told.items() if v} | DELTA_PATIENCE | plain

    @property
    def puts_new(self) -> bool:
        return _client(self.endpoint, self.region) is not None

    def put_new(self, content: bytes) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client, (bucket, _, key) = _client(self.endpoint, self.region), self.path.partition("/")
        assert client is not None  # as puts_new says
        try:
            client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
        except (BotoCoreError, ClientError) as error:
            said = getattr(error, "response", {}).get("Error", {}).get("Code")
            if said in _ALREADY_THERE:
                return False
            raise Unavailable(f"{self.uri}: the storage can't be used: {error}") from error
        return True

    @property
    def lists_from(self) -> bool:
        return self.puts_new

    def listed_from(self, name: str) -> Iterator[tuple[str, int, datetime]]:
        from botocore.exceptions import BotoCoreError, ClientError

        client, (bucket, _, key) = _client(self.endpoint, self.region), self.path.partition("/")
        assert client is not None  # as lists_from says
        pages = client.get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=bucket, Prefix=f"{key}/", Delimiter="/", StartAfter=f"{key}/{name}"):
                for file in page.get("Contents", ()):
                    yield file["Key"].rpartition("/")[2], file["Size"], file["LastModified"]
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"{self.uri}: the storage can't be used: {error}") from error

    def hadoop_options(self) -> dict[str, str]:
        told = {"fs.s3a.endpoint": self.endpoint, "fs.s3a.endpoint.region": self.region}
        own = {"fs.s3a.path.style.access": "true"} if self.endpoint else {}
        return {k: v for k, v in told.items() if v} | own

    @property
    def hadoop_uri(self) -> str:
        return f"s3a://{self.path}"


def located(table: str) -> S3:
    bucket, folder = bucket_and_folder(table)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    region = region or ("us-east-1" if endpoint else _region_of(bucket))
    return S3(f"s3://{bucket}/{folder}", f"{bucket}/{folder}", endpoint, region)


@functools.lru_cache(maxsize=8)
def _filesystem(endpoint: str, region: str) -> pa_fs.FileSystem:
    host = urlsplit(endpoint)
    return pa_fs.S3FileSystem(
        region=region or None,
        scheme=host.scheme or "https",
        endpoint_override=host.netloc or None,
        allow_delayed_open=True,  # small files in one request
        retry_strategy=pa_fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


@functools.lru_cache(maxsize=8)
def _client(endpoint: str, region: str) -> Any:
    """A client that can put conditionally, which Arrow's can't; None without boto3 (the extra `s3`) or credentials."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        return None
    config = Config(
        retries={"mode": "standard", "max_attempts": ATTEMPTS},
        read_timeout=PATIENCE_S,
        request_checksum_calculation="when_required",  # not all that speak like S3 know the newer ones
        s3={"addressing_style": "path"} if endpoint else None,
    )
    session = boto3.Session(region_name=region or None)
    if session.get_credentials() is None:
        return None
    return session.client("s3", endpoint_url=endpoint or None, config=config)


@functools.lru_cache(maxsize=64)
def _region_of(bucket: str) -> str:
    """The region that AWS says a bucket is in."""
    try:
        return str(pa_fs.resolve_s3_region(bucket))
    except OSError as error:
        raise Unavailable(f"s3://{bucket}: its region can't be found: {error}; set AWS_REGION") from error
