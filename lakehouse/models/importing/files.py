"""What a model's file holds, found out without loading it: its kind, by content, and what that kind tells.

Compressed containers of joblib's are decompressed into a folder, and are what is read from then on.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lakehouse.errors import ConfigError, ModelRefused, nearest
from lakehouse.models.importing import described, formats, pickles
from lakehouse.models.importing.inspected import KINDS, PICKLED, Inspected
from lakehouse.models.importing.known_modules import LIBRARIES

Opener = Callable[[Path], Any]
_MOST = 1 << 35
"""So many bytes at most come out of a compressed file."""
_BLOCK = 1 << 20


def inspect(path: Path, folder: Path) -> Inspected:
    """Say what a file holds, loading nothing of it; `folder`: a scratch folder for a copy of it.

    The copy is what is opened later, so that nothing else can be put in its place meanwhile.
    Raises ConfigError where there is no such file, ModelRefused for one that is no whole model of a known kind.
    """
    if path.is_dir():
        hint = "it is an MLflow model already: a job takes it as model.uri" if (path / "MLmodel").exists() else ""
        raise ConfigError(f"{path} is a folder: {hint or 'name a file'}")
    if not path.exists():
        raise ConfigError(f"there is no file {path}; {nearest(path.name, _files_beside(path))}")
    copy = folder / f"original{path.suffix}"
    shutil.copyfile(path, copy)
    with open(copy, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        found = _inspect(copy, folder)
    except ModelRefused as refused:
        raise ModelRefused(f"{path}: {refused}") from refused
    return replace(found, path=path, size=copy.stat().st_size, digest=digest)


def _files_beside(path: Path) -> list[str]:
    return [found.name for found in path.absolute().parent.glob("*") if found.is_file()]


def _inspect(path: Path, folder: Path) -> Inspected:
    with open(path, "rb") as stream:
        start = stream.read(4096)
    if not start:
        raise ModelRefused("the file is empty")
    for begins, read in _BY_START.items():
        if start.startswith(begins):
            return read(path)
    if start.lstrip()[:1] == b"{":
        return formats.xgboost_json(path)
    for begins, container in _CONTAINERS.items():
        if start.startswith(begins):
            return _compressed(path, folder, *container)
    if start.startswith(b"\x08") and (found := formats.onnx_graph(path)):
        return found
    return _pickled(path, path)


def _compressed(path: Path, folder: Path, name: str, open_: Opener) -> Inspected:
    """A container of joblib's, decompressed; what is in it is read as a pickle and nothing else."""
    out, written = folder / "decompressed", 0
    try:
        with open_(path) as stream, open(out, "wb") as target:
            while block := stream.read(_BLOCK):
                written += len(block)
                if written > _MOST:
                    raise ModelRefused(f"more than {_MOST >> 30} GiB come out of it: no model is so large")
                target.write(block)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ModelRefused(
            f"it is compressed ({name}) and can't be decompressed, it may be cut off: {error}"
        ) from error
    with open(out, "rb") as stream:
        start = stream.read(8)
    if any(start.startswith(begins) for begins in _CONTAINERS):
        raise ModelRefused("it is compressed twice, which joblib never does")
    return _pickled(path, out, name)


def _not_decompressed(what: str) -> Opener:
    def refuse(path: Path) -> Any:
        raise ModelRefused(f"{what}: load it where it was written and dump it again, compressed by zlib or not at all")

    return refuse


def _zlib(path: Path) -> Any:
    from joblib.compressor import BinaryZlibFile

    return BinaryZlibFile(str(path), "rb")


def _pickled(path: Path, content: Path, compression: str = "") -> Inspected:
    with open(content, "rb") as stream:
        try:
            found = pickles.read_pickle(stream)
        except ModelRefused as refused:
            stream.seek(0)
            if compression or stream.read(1) == b"\x80":
                raise
            raise ModelRefused(f"it is no model of a known kind, which are {KINDS}; as a pickle: {refused}") from None
        left = content.stat().st_size - stream.tell()
    code = pickles.brings_code(found)
    kind = "joblib" if found.joblib or compression else "cloudpickle" if code else "pickle"
    kind += f", compressed ({compression})" if compression else ""
    words = ["pickle: to read it is to run what it says"]
    words += ["functions or classes of its own are in it, which can't be judged"] if code else []
    top = found.top
    objections = pickles.objections(found)
    if not objections and (top is None or top.module.partition(".")[0] not in LIBRARIES):
        objections = [f"what it holds is {top.text if top else 'no object of a class'}, which is no estimator"]
    needs = tuple(described.libraries(found))
    return Inspected(
        path, f"{kind}, protocol {found.protocol}", PICKLED, content, described.estimators(found),
        {name: tuple(sorted(found.versions.get(name, ()))) for name in (LIBRARIES.get(p, p) for p in needs)}, needs,
        (("pickle", "; ".join(words)),), tuple(objections), tuple(described.not_told(found, left)),
        tuple(dict.fromkeys(n.text for n in found.named)), tuple(described.pythons(found)),
        tuple(sorted(found.code_of)),
    )  # fmt: skip


_BY_START: Mapping[bytes, Callable[[Path], Inspected]] = {
    b"PK\x03\x04": formats.archive, b"\x89HDF": formats.hdf5, b"CBM1": formats.catboost, b"tree\n": formats.lightgbm,
    b"tree\r\n": formats.lightgbm, b"{L": formats.xgboost_ubj, b"binf": formats.xgboost_old,
}  # fmt: skip
_CONTAINERS: Mapping[bytes, tuple[str, Opener]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZ": ("bz2", bz2.open),
    b"\xfd7zXZ": ("xz", lzma.open),
    b"\x5d\x00": ("lzma", lzma.open),
    b"\x78": ("zlib", _zlib),
    b"\x04\x22\x4d\x18": ("lz4", _not_decompressed("it is compressed by lz4")),
    b"ZF": ("zfile", _not_decompressed("joblib before 0.9.3 wrote it")),
}  # fmt: skip
"""How files begin that joblib takes for compressed ones, and how these are read."""
