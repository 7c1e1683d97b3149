"""What executors get: this package as a zip, the model as an archive, the plan as a pickle."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import pickle
import sys
import threading
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from importlib.machinery import SourceFileLoader
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import models
from lakehouse.engines import scratch
from lakehouse.engines.spark.sessions import one_machine
from lakehouse.scoring.staging import BatchSource, Staging

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DRIVER_ONLY = ("lakehouse/cli", "lakehouse/demo", "lakehouse/views", "lakehouse/engines/runtime.py")
"""Parts of the package that no worker calls: commands, the example, pages, what fetches Java and jars."""


@contextmanager
def shipped(spark: SparkSession, folders: models.Folders) -> Iterator[str]:
    """Ship this package and the models to the executors while the block runs; the name that the models are found by."""
    with _leaving_a_stub(f"models-{uuid.uuid4().hex}.zip", _EMPTY_ZIP) as named:
        models.pack(folders, named, same_machine=one_machine(spark))
        ship_package(spark)
        spark.addArtifact(str(named), archive=True)
        yield named.name


@contextmanager
def ship_plan(spark: SparkSession, staging: Staging, shares: list[list[BatchSource]]) -> Iterator[str]:
    """Ship what the executors are to do; the name it is found by."""
    with ship(spark, (staging, shares)) as name:
        yield name


@contextmanager
def ship(spark: SparkSession, what: object) -> Iterator[str]:
    """Ship something picklable; the name it is found by."""
    with _leaving_a_stub(f"plan-{uuid.uuid4().hex}.pickle", b"") as plan:
        plan.write_bytes(pickle.dumps(what))
        spark.addArtifact(str(plan), file=True)
        yield plan.name


_EMPTY_ZIP = b"PK\5\6" + bytes(18)


@contextmanager
def _leaving_a_stub(name: str, stub: bytes) -> Iterator[Path]:
    """A file of this process that is a small stub after the block, or stays as it is where the block fails.

    A session asks for all that was ever added to it whenever an executor comes to it, and fails every later job where
    something of that is gone; where no task had run yet it compares contents, too.
    """
    path = scratch.process_folder() / name
    yield path
    path.write_bytes(stub)


def ship_package(spark: SparkSession) -> None:
    """Ship this package to the executors, once a session, whichever of its runs come first.

    Spark puts it on the driver's own path, too, from which it is taken again: the driver has the whole package, and so
    must processes that it starts, which get its path.
    """
    with _packing:  # Spark compares it with what is there, which another run may be putting there
        packed = pack_package()
        spark.addArtifact(str(packed), pyfile=True)
        for entry in [entry for entry in sys.path if Path(entry).name == packed.name]:
            sys.path.remove(entry)


def pack_package() -> Path:
    """This very package, less what only the driver calls, as a zip named by its content.

    Executors run the driver's code, installed there or not, and need not compile it where they have its Python. It
    stays in one place as long as this process: Spark takes no file of one name from two.
    """
    package = resources.files("lakehouse")
    sources = sorted(_sources(package, "lakehouse"))
    with _packing:  # runs may share a session, each in a thread of its own
        known = _digest(sources)
        if known not in _packed or not _packed[known].exists():
            _packed[known] = _pack(package, sources)
        return _packed[known]


_packing = threading.RLock()
_packed: dict[str, Path] = {}
"""The zips of this process, by the digest of the sources in them."""


def _pack(package: Traversable, sources: Sequence[tuple[str, bytes]]) -> Path:
    """The zip, named by all that is in it: the same module compiled twice need not be the same bytes."""
    parts = list(sources)
    parts += [(f"{name}c", code) for name, content in sources if (code := _compiled(package, name, content))]
    target = scratch.process_folder() / f"lakehouse-{_digest(parts)[:16]}.zip"
    half = target.with_suffix(".part")
    with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content)
    half.replace(target)
    return target


def _digest(parts: Sequence[tuple[str, bytes]]) -> str:
    return hashlib.sha256(b"".join(name.encode() + content for name, content in parts)).hexdigest()


def _compiled(package: Traversable, name: str, source: bytes) -> bytes:
    """The module as Python keeps it compiled, which another Python passes over; nothing where it is no file of its own.

    Said to be of this very source, so that nobody compares times: a zip has none of the files'.
    """
    file = package.joinpath(*name.split("/")[1:])
    if not isinstance(file, Path):
        return b""
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    code = SourceFileLoader(module, str(file)).get_code(module)  # from the driver's own cache, as a rule
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


_UNCHECKED = (1).to_bytes(4, "little")
"""Flags of a compiled file that names its source by a hash, which is not compared (PEP 552)."""


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{path}/{entry.name}"
        if name in _DRIVER_ONLY:
            continue
        if entry.is_dir():
            yield from _sources(entry, name)
        elif name.endswith(".py"):
            yield name, entry.read_bytes()
