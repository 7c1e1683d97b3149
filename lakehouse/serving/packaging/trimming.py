"""What of an installed library a package takes: what runs, without tests, headers, sources and symbol tables.

Compiled files stand in place of Python's sources, since a function can't write them where it runs, and would compile
all anew at each cold start.
"""

from __future__ import annotations

import importlib
import os
import py_compile
import shutil
import struct
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

_FOLDERS = frozenset(["tests", "test", "include", "__pycache__", "_pyinstaller"])
_SOURCES = frozenset([".pyx", ".pxd", ".pxi", ".pyi", ".h", ".hpp", ".c", ".cc", ".cpp", ".f", ".f90", ".a", ".lib"])
_RECORDS = frozenset(["RECORD", "INSTALLER", "REQUESTED", "direct_url.json"])
_LEFT_OUT = (
    "pyarrow/libarrow_flight.so*", "pyarrow/libarrow_python_flight.so*", "pyarrow/_flight*", "pyarrow/flight.py",
    "pyarrow/libarrow_python_parquet_encryption.so*", "pyarrow/_parquet*", "pyarrow/parquet/*", "pyarrow/_dataset*",
    "pyarrow/dataset.py", "pyarrow/_orc*", "pyarrow/orc.py", "pyarrow/_feather*", "pyarrow/feather.py",
    "pyarrow/_json*", "pyarrow/json.py", "pyarrow/_substrait*", "pyarrow/substrait.py", "pyarrow/_hdfs*",
    "pyarrow/_s3fs*", "pyarrow/_gcsfs*", "pyarrow/_azurefs*", "pyarrow/_pyarrow_cpp_tests*", "pyarrow/src/*",
    "pyarrow/libarrow_python.so", "pyarrow/libarrow_python.so.*.*.*",  # the same file as libarrow_python.so.2500
    "numpy/distutils/*",
    "sklearn/datasets/data/*", "sklearn/datasets/images/*", "sklearn/datasets/descr/*",
)  # fmt: skip
"""Parts of large libraries that nothing imports which serves: readers of files, services, examples, compilers."""
_COMPUTED = frozenset(["skops/io/_trusted_types.py"])
"""Modules that compute at each import what is the same each time: this one imports all of scikit-learn for names."""
_ELF64 = b"\x7fELF\x02\x01"
_LOADED, _DYNAMIC = 1, 2


def is_kept(place: PurePosixPath) -> bool:
    """Whether a library's file belongs into a package."""
    if _FOLDERS & set(place.parts[:-1]) or place.suffix in _SOURCES or place.name in _RECORDS:
        return False
    return not any(_fits(place, pattern) for pattern in _LEFT_OUT)


def _fits(place: PurePosixPath, pattern: str) -> bool:
    if pattern.endswith("/*"):
        return str(place).startswith(pattern[:-1])
    return place.match(pattern)


def copy(source: Path, place: PurePosixPath, folder: Path) -> PurePosixPath:
    """Copy a library's file below the folder: Python compiled, machine code without its symbol table; its place."""
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if str(place) in _COMPUTED and (text := constants_of(".".join(place.with_suffix("").parts))):
        target.write_text(text, encoding="utf-8")
        compile_to(target, place, target.with_suffix(".pyc"))
        target.unlink()
        return place.with_suffix(".pyc")
    if place.suffix == ".py" and compile_to(source, place, target.with_suffix(".pyc")):
        return place.with_suffix(".pyc")
    if ".so" in place.suffixes:
        target.write_bytes(without_symbols(source.read_bytes()))
        target.chmod(0o755)
    else:
        shutil.copyfile(source, target)
    return place


def constants_of(module: str) -> str | None:
    """The source of a module with the constants that this one has here; None where they are not all lists of names."""
    here = vars(importlib.import_module(module))
    lines = []
    for name, value in here.items():
        if not name.isupper() or name.startswith("_"):
            continue
        parts = [_literal(one) for one in value] if isinstance(value, list) else [None]
        if None in parts:
            return None
        lines.append(f"{name} = [{', '.join(map(str, parts))}]")
    return "\n".join(lines) + "\n" if lines else None


def _literal(value: Any) -> str | None:
    """A text, or a type of Python's own, as source; None for anything else."""
    if isinstance(value, str):
        return repr(value)
    return value.__name__ if isinstance(value, type) and value.__module__ == "builtins" else None


def compile_to(source: Path, place: PurePosixPath, target: Path) -> bool:
    """Compile a file of Python's; whether that could be done. `place`: as tracebacks name it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH  # no time of writing: the same files make the same package
    try:
        with warnings.catch_warnings(), open(os.devnull, "w"):
            warnings.simplefilter("ignore")
            py_compile.compile(str(source), str(target), str(place), doraise=True, optimize=0, invalidation_mode=mode)
    except (py_compile.PyCompileError, ValueError):  # a template, or a file for another Python
        return False
    return True


def without_symbols(content: bytes) -> bytes:
    """A shared object cut off behind what is loaded of it: the loader needs no sections, and so none of their names.

    As the ELF specification has it: the program header says what is loaded (`PT_LOAD`), the section header, which is
    behind that, is for linkers and debuggers. Anything else than a little-endian ELF of 64 bits stays as it is.
    """
    if not content.startswith(_ELF64):
        return content
    (at,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    end = at + size * count
    for number in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", content, at + number * size)
        if kind in (_LOADED, _DYNAMIC):
            end = max(end, offset + length)
    header = bytearray(content[:end])
    struct.pack_into("<Q", header, 40, 0)  # e_shoff
    struct.pack_into("<HHH", header, 58, 0, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    return bytes(header)
