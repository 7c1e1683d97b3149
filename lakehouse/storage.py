"""Where a table's files are: the one place that turns a table's name into a filesystem and every library's settings.

A storage system's settings are those of its own command line tools, in the environment (for S3: AWS_ENDPOINT_URL,
AWS_REGION, …), credentials by its own chain. What an executor can't know travels with the `Location`; secrets don't.
"""

from __future__ import annotations

import functools
import os
import posixpath
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pa_fs

from lakehouse.errors import ConfigError, Unavailable

S3 = "s3"
_ALIASES = {"": "", "file": "", "s3": S3, "s3a": S3, "s3n": S3}
_ATTEMPTS = 6
"""Tries of one request, with growing pauses, before a storage system counts as out of reach."""


@dataclass(frozen=True)
class Location:
    """A folder on a storage system. `uri` is what Delta libraries are given, `path` what `filesystem()` takes.

    `endpoint` and `region` are those of the object storage, where the environment of the driver names them.
    """

    uri: str
    path: str
    scheme: str = ""
    endpoint: str = ""
    region: str = ""

    @property
    def remote(self) -> bool:
        return self.scheme != ""

    def filesystem(self) -> pa_fs.FileSystem:
        return _s3(self.endpoint, self.region) if self.scheme == S3 else pa_fs.LocalFileSystem()

    def delta_options(self) -> dict[str, str]:
        """What deltalake is told: commits are conditional puts, so that no two writers make the same version."""
        if not self.remote:
            return {}
        told = {"conditional_put": "etag", "region": self.region, "endpoint_url": self.endpoint}
        patience = {"max_retries": str(_ATTEMPTS), "retry_timeout": "60s"}
        plain = {"allow_http": "true"} if self.endpoint.startswith("http:") else {}
        return {k: v for k, v in told.items() if v} | patience | plain

    def hadoop_options(self) -> dict[str, str]:
        """What Spark's own reader is told (hadoop-aws), as options of that one read."""
        if not self.remote:
            return {}
        told = {"fs.s3a.endpoint": self.endpoint, "fs.s3a.endpoint.region": self.region}
        own = {"fs.s3a.path.style.access": "true"} if self.endpoint else {}
        return {k: v for k, v in told.items() if v} | own

    @property
    def hadoop_uri(self) -> str:
        """The location as Hadoop's file systems spell it."""
        return f"s3a://{self.path}" if self.scheme == S3 else self.uri

    def join(self, *parts: str) -> Location:
        tail = "/".join(parts)
        return replace(self, uri=f"{self.uri}/{tail}", path=f"{self.path}/{tail}")

    def beside(self, suffix: str) -> Location:
        """The folder next to this one with `suffix` appended to its name."""
        return replace(self, uri=self.uri + suffix, path=self.path + suffix)


@functools.lru_cache(maxsize=8)
def _s3(endpoint: str, region: str) -> pa_fs.FileSystem:
    host = urlsplit(endpoint)
    return pa_fs.S3FileSystem(
        region=region or None,
        scheme=host.scheme or "https",
        endpoint_override=host.netloc or None,
        allow_delayed_open=True,  # small files in one request
        retry_strategy=pa_fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


@functools.lru_cache(maxsize=64)
def _region_of(bucket: str) -> str:
    """The region that AWS says a bucket is in."""
    try:
        return str(pa_fs.resolve_s3_region(bucket))
    except OSError as error:
        raise Unavailable(f"s3://{bucket}: its region can't be found: {error}; set AWS_REGION") from error


def locate(table: str) -> Location:
    """The location of a table named by a path (relative ones: to the working directory), a `file:` or `s3:` URI.

    Raises ConfigError for a scheme that is not supported.
    """
    scheme = urlsplit(table).scheme if "://" in table or table.startswith("file:") else ""
    if scheme not in _ALIASES:
        raise ConfigError(f"{table}: storage {scheme}:// is not supported yet, only paths, file: and s3: URIs are")
    if _ALIASES[scheme] == S3:
        path = table.split("://", 1)[1].strip("/")
        bucket, _, key = path.partition("/")
        if not bucket or not key:
            raise ConfigError(f"{table}: name a bucket and a folder in it: s3://bucket/folder")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        region = region or ("us-east-1" if endpoint else _region_of(bucket))
        return Location(f"s3://{path}", path, S3, endpoint, region)
    path = unquote(urlsplit(table).path) if scheme else table
    absolute = os.path.abspath(os.path.expanduser(path))
    return Location(absolute, absolute)


def shown(location: Location) -> str:
    """The location as a person would type it: relative to the working directory where that is shorter."""
    if location.remote:
        return location.uri
    relative = os.path.relpath(location.path)
    return location.path if relative.startswith("..") else relative


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Raise Unavailable where an object storage does not answer, or not as it should."""
    try:
        yield
    except OSError as error:
        if not location.remote:
            raise
        raise Unavailable(f"{location.uri}: the storage can't be used: {error}") from error


def create_file(location: Location) -> pa.NativeFile:
    """A stream into a new file, whose folder is made where the storage has such a thing."""
    filesystem = location.filesystem()
    if not location.remote:
        filesystem.create_dir(posixpath.dirname(location.path), recursive=True)
    return filesystem.open_output_stream(location.path)


def write_durably(location: Location, content: bytes) -> None:
    """Write a small file so that it is there whole or not at all, and outlives a crash of the machine."""
    if location.remote:
        with reaching(location), create_file(location) as stream:
            stream.write(content)
        return
    target = Path(location.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with open(draft, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _listed(folder: Location, recursive: bool = False) -> list[pa_fs.FileInfo]:
    with reaching(folder):
        selector = pa_fs.FileSelector(folder.path, allow_not_found=True, recursive=recursive)
        return list(folder.filesystem().get_file_info(selector))


def read_all(folder: Location, suffix: str) -> dict[str, bytes]:
    """The files of a folder whose names end with `suffix`, by name, in order; none where there is no folder.

    One that somebody takes away meanwhile is left out.
    """
    found = {}
    for info in sorted(_listed(folder), key=lambda i: str(i.base_name)):
        if info.is_file and info.base_name.endswith(suffix) and not info.base_name.startswith("."):
            content = _content(folder.join(str(info.base_name)))
            if content is not None:
                found[str(info.base_name)] = content
    return found


def _content(file: Location) -> bytes | None:
    filesystem = file.filesystem()
    with reaching(file):
        try:
            with filesystem.open_input_stream(file.path) as stream:
                return bytes(stream.read())
        except OSError:  # S3 says so in an error of no particular kind
            if filesystem.get_file_info(file.path).type == pa_fs.FileType.NotFound:
                return None
            raise


def remove(location: Location) -> None:
    """Delete a file; one that is gone already is fine."""
    with reaching(location), suppress(FileNotFoundError):
        location.filesystem().delete_file(location.path)


def sizes(root: Location, paths: list[str]) -> dict[str, int | None]:
    """The size in bytes of each file under `root`, None for one that is not there. Lists folders, not files."""
    there: Mapping[str, int] = {
        info.path: info.size
        for folder in sorted({path.split("/", 1)[0] for path in paths})
        for info in _listed(root.join(folder), recursive=True)
        if info.is_file
    }
    return {path: there.get(f"{root.path}/{path}") for path in paths}


def tree(folder: Location) -> dict[str, int]:
    """The files below a folder, relative to it, and their sizes in bytes."""
    head = f"{folder.path}/"
    return {i.path.removeprefix(head): i.size for i in _listed(folder, recursive=True) if i.is_file}


def folders(folder: Location) -> list[str]:
    """The names of the folders in this one."""
    return sorted(str(i.base_name) for i in _listed(folder) if i.type == pa_fs.FileType.Directory)


def remove_empty(folder: Location) -> None:
    """Remove a folder in which no file is left, and its parent likewise; object storage has no folders to remove."""
    parent = Path(folder.path).parent
    if not folder.remote and Path(folder.path).is_dir() and not tree(folder):
        folder.filesystem().delete_dir(folder.path)
        with suppress(OSError):  # it is not empty
            parent.rmdir()


def siblings(location: Location) -> list[str]:
    """The names of the folders beside this one."""
    return folders(replace(location, path=posixpath.dirname(location.path), uri=posixpath.dirname(location.uri)))
