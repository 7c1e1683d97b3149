"""A pickle read without being loaded: what it names, and what it says of the versions it was written with.

Its instructions (`pickletools.genops`) are followed on a stack of stand-ins (`machine`, `instructions`): nothing is
imported and nothing called.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import BinaryIO, cast

from lakehouse.errors import ModelRefused
from lakehouse.models.importing.instructions import ACTIONS
from lakehouse.models.importing.known_modules import is_code, may_import, objection
from lakehouse.models.importing.machine import Bounded, Contents, Machine, Named

_SHOWN = 20
_BROKEN = (ValueError, LookupError, TypeError, StopIteration, MemoryError, OverflowError, UnicodeError)


def read_pickle(stream: BinaryIO, within: str = "", depth: int = 0) -> Contents:
    """Follow one pickle to its end, from where the stream stands, and say what it holds.

    `within`: where it lies, for messages; `depth`: in how many others. Raises ModelRefused for what is no whole
    pickle, with the place.
    """
    start = stream.tell()
    machine = Machine(Bounded(stream), ACTIONS, read_pickle, within, depth)
    try:
        for code, argument, place in pickletools.genops(cast(BinaryIO, machine.stream)):
            machine.place = start if place is None else place
            machine.follow(code, argument)
    except _BROKEN as error:
        raise ModelRefused(f"it is no whole pickle: near {machine.at}: {_said(error)}") from error
    contents = machine.finish()
    contents.size = stream.tell() - start
    return contents


def _said(error: Exception) -> str:
    if isinstance(error, LookupError | TypeError | StopIteration):
        return "an instruction lacks what it works on"
    return str(error) or type(error).__name__


def objections(contents: Contents) -> list[str]:
    """Why a pickle must not be loaded whoever made it, each with its place; none where nothing speaks against it.

    None is no proof that it is harmless: to load a pickle is to run what it says.
    """
    found = dict[str, str]()
    for named in contents.named:
        why = objection(named.module, named.name)
        if why is not None:
            found.setdefault(named.text, f"{named.text} at {named.where} {why}")
    for taken in contents.imports:
        if not may_import(taken.module):
            found.setdefault(taken.module, f"its code at {taken.where} imports {taken.module}")
    listed = [*found.values(), *dict.fromkeys(contents.problems)]
    more = [f"and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return listed[:_SHOWN] + more


def brings_code(contents: Contents) -> bool:
    """Whether functions or classes themselves are in it, as cloudpickle puts them there."""
    return any(is_code(named.module, named.name) for named in contents.named)


def packages(contents: Contents) -> Iterator[str]:
    """The packages that it names something of, each once, in the order of the file."""
    yield from dict.fromkeys(named.module.partition(".")[0] for named in contents.named)


def classes(contents: Contents, package: str) -> list[Named]:
    """The classes of a package that it names, each once."""
    found = {n.text: n for n in contents.named if n.module.partition(".")[0] == package and n.name[:1].isupper()}
    return list(found.values())
