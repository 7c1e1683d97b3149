"""A folder and what each library is told to use it; here one on a disk, every object storage has a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Self

import pyarrow.fs as pa_fs

from lakehouse.errors import ConfigError

ATTEMPTS = 6
"""Tries of one request, with growing pauses, before a storage system counts as out of reach."""
PATIENCE_S = 60
DELTA_PATIENCE = {"max_retries": str(ATTEMPTS), "retry_timeout": f"{PATIENCE_S}s"}


@dataclass(frozen=True)
class Location:
    """A folder on a storage system. `uri` is what Delta libraries are given, `path` what `filesystem()` takes.

    A subclass adds what the driver's environment says of its system, so that executors know it; secrets never.
    """

    uri: str
    path: str

    system: ClassVar[str] = "a local disk"
    remote: ClassVar[bool] = False
    lists_folders: ClassVar[bool] = True
    """Whether the filesystem sees a folder that is only the beginning of its files' names."""
    spark_may_overwrite: ClassVar[bool] = True
    """Whether Spark's own log store there can replace a commit that another process has just made."""
    hadoop_jars: ClassVar[str] = ""
    """Maven coordinates of Hadoop's file system for it, in which {hadoop} is the version of Spark's Hadoop."""
    hadoop_settings: ClassVar[Mapping[str, str]] = {}
    """What Hadoop is told of it in a session of our own; other sessions are told of it by whoever opens them."""
    jars_option: ClassVar[str] = ""
    """The option of `lakehouse jars` that adds these."""

    def filesystem(self) -> pa_fs.FileSystem:
        return pa_fs.LocalFileSystem()

    def delta_options(self) -> dict[str, str]:
        """What deltalake is told: commits are conditional puts, so that no two writers make the same version."""
        return {}

    @property
    def puts_new(self) -> bool:
        """Whether `put_new` can be asked here."""
        return False

    def put_new(self, content: bytes) -> bool:
        """Put a file here in one request, which the storage refuses where one is already; whether this one was taken.

        One whose first reply was lost counts as not taken, too. Raises Unavailable where the storage does not answer.
        """
        raise NotImplementedError(f"{self.system}: only where puts_new says so")

    @property
    def lists_from(self) -> bool:
        """Whether `listed_from` can be asked here."""
        return False

    def listed_from(self, name: str) -> Iterator[tuple[str, int, datetime]]:
        """The files in this folder whose names come after this one, in order: name, bytes, and when it was written.

        Asked for as they are taken, some 1,000 with each request. Raises Unavailable where the storage does not answer.
        """
        raise NotImplementedError(f"{self.system}: only where lists_from says so")

    def spark_needs(self, why: str = "") -> frozenset[type[Location]]:
        """The system whose file system Spark needs to read or write here, if any. Raises ConfigError where it can't."""
        return frozenset([type(self)] if self.hadoop_jars else [])

    def hadoop_options(self) -> dict[str, str]:
        """What Spark's own reader is told, as options of that one read."""
        return {}

    @property
    def hadoop_uri(self) -> str:
        """The location as Hadoop's file systems spell it."""
        return self.uri

    def join(self, *parts: str) -> Self:
        tail = "/".join(parts)
        return replace(self, uri=f"{self.uri}/{tail}", path=f"{self.path}/{tail}")

    def beside(self, suffix: str) -> Self:
        """The folder next to this one with `suffix` appended to its name."""
        return replace(self, uri=self.uri + suffix, path=self.path + suffix)


@dataclass(frozen=True)
class BeyondSpark(Location):
    """An object storage that Spark itself can't use here: neither are its jars fetched, nor is it tested."""

    remote: ClassVar[bool] = True
    spark_may_overwrite: ClassVar[bool] = False  # its log store puts conditionally too

    def spark_needs(self, why: str = "") -> frozenset[type[Location]]:
        reason = f" ({why})" if why else ""
        raise ConfigError(
            f"{self.uri} has to be read or written by Spark itself{reason}, which can't use {self.system} here yet: "
            "do without what needs Spark, or keep this table elsewhere"
        )

    def hadoop_options(self) -> dict[str, str]:
        self.spark_needs()
        return {}


def bucket_and_folder(table: str) -> tuple[str, str]:
    """The bucket (or container and account) and the folder that a URI names, both without slashes around them."""
    scheme, _, rest = table.partition("://")
    bucket, _, folder = rest.strip("/").partition("/")
    if not bucket or not folder:
        raise ConfigError(f"{table}: name a bucket and a folder in it: {scheme}://bucket/folder")
    return bucket, folder
