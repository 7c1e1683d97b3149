"""What a pickle holds, in words: its estimators, the libraries it needs, and what it says of where it was written."""

from __future__ import annotations

from collections.abc import Iterator

from lakehouse.models.importing.known_modules import LIBRARIES
from lakehouse.models.importing.machine import Contents
from lakehouse.models.importing.pickles import brings_code, classes, packages


def libraries(found: Contents) -> list[str]:
    """The packages that must be there to load it."""
    known = [package for package in packages(found) if package in LIBRARIES]
    return known + (["cloudpickle"] if brings_code(found) else [])


def estimators(found: Contents) -> str:
    """The outermost object, and the other classes of its library, such as the steps of a pipeline."""
    if found.top is None:
        return "no object of a class"
    package = found.top.module.partition(".")[0]
    steps = [n.name for n in classes(found, package) if n.text != found.top.text]
    return found.top.text + (f" with {', '.join(steps[:8])}{', …' if len(steps) > 8 else ''}" if steps else "")


def not_told(found: Contents, left: int) -> Iterator[str]:
    """What can't be told of it; `left`: how many bytes there are after its end."""
    if not (found.code_of or found.paths):
        yield "which Python wrote it: a pickle does not record it"
    unsaid = [p for p in libraries(found) if LIBRARIES.get(p, p) not in found.versions]
    if unsaid:
        yield f"which versions of {', '.join(LIBRARIES.get(p, p) for p in unsaid)} wrote it"
    if left:
        yield f"what the {left:,} bytes after its end are for: they are not read"


def pythons(found: Contents) -> Iterator[str]:
    """What hints at the Python and the NumPy that wrote it."""
    least = {5: "3.8 or later", 4: "3.4 or later", 3: "3.0 or later"}.get(found.protocol)
    if least:
        yield f"Python {least}, by its protocol"
    yield from (f"Python {one}, by the code of its functions" for one in sorted(found.code_of))
    yield from (f"Python {one}, by the path of a source file" for one in sorted(found.paths))
    modules = {n.module for n in found.named}
    if any(module.startswith("numpy._core") for module in modules):
        yield "NumPy 2, by the names of its modules"
    elif any(module.startswith("numpy.core") for module in modules):
        yield "NumPy 1, by the names of its modules"
