"""What a pickle's instructions are followed on: a stack and a memo of stand-ins for what would be made.

Arrays that joblib puts between the instructions are stepped over as joblib itself would.
"""

from __future__ import annotations

import _compat_pickle
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from lakehouse.errors import ModelRefused

_DEEPEST = 8
_LARGE = 1 << 16
_BLOCK = 1 << 20
_VERSION_KEY = "_sklearn_version"
"""The key in an estimator's state that is followed by the version of scikit-learn."""


@dataclass(frozen=True)
class Named:
    """A module's class or function that a pickle names; `where`: the place in the file."""

    module: str
    name: str
    where: str

    @property
    def text(self) -> str:
        """Module and name as Python spells them."""
        return f"{self.module}.{self.name}"


@dataclass
class Contents:
    """What a pickle holds, as far as it can be told without loading it.

    `problems`: what can't be known before it is loaded, and so must not be; `versions`: by what is installed for a
    library, every version that is recorded; `code_of`: Pythons that its functions may have been compiled by; `imports`:
    modules that its code takes whole; `top`: what the outermost object is made by.
    """

    protocol: int = 0
    named: list[Named] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    versions: dict[str, set[str]] = field(default_factory=dict)
    code_of: set[str] = field(default_factory=set)
    imports: list[Named] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    joblib: bool = False
    top: Named | None = None
    size: int = 0


@dataclass
class Made:
    """An object that a call would make: of what, with which arguments, and the state it would be given."""

    of: Any
    arguments: Any = ()
    state: Any = None


class Items(dict[Any, Any]):
    """A dictionary that is being filled, as far as its keys are texts."""


class Sign:
    """A value of which nothing is known, or the mark of an instruction."""


MARK, UNKNOWN = Sign(), Sign()


class Bounded:
    """A stream that is read in blocks, so that a length that is a lie asks for no memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.tell, self.readline = stream, stream.tell, stream.readline

    def read(self, size: int) -> bytes:
        parts, left = [], size
        while left > 0 and (part := self.stream.read(min(left, _BLOCK))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def origin(made: Any) -> Named | None:
    """What made an object in the end: `copyreg._reconstructor` and its kin are given the class."""
    while isinstance(made, Made):
        given = made.arguments[0] if isinstance(made.arguments, tuple) and made.arguments else None
        made = given if isinstance(made.of, Named) and made.of.module == "copyreg" else made.of
    return made if isinstance(made, Named) else None


@dataclass
class Machine:
    """One pickle that is being followed.

    `actions`: what each instruction does; `nested`: reads a pickle within this one; `within`, `depth`: see
    `pickles.read_pickle`.
    """

    stream: Bounded
    actions: Mapping[str, Callable[[Machine, Any], None]]
    nested: Callable[[BinaryIO, str, int], Contents]
    within: str
    depth: int
    contents: Contents = field(default_factory=Contents)
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    place: int = 0
    protocol: int = 0
    frame_end: int = 0
    arrays: int = 0
    result: Any = None

    def follow(self, code: Any, argument: Any) -> None:
        """Do one instruction on the stack."""
        action = self.actions.get(code.name)
        if action is not None:
            action(self, argument)
        elif code.arg is not None and not code.stack_before and len(code.stack_after) == 1:
            self.push(self.constant(argument))
        else:
            self.contents.problems.append(f"the instruction {code.name} at {self.at} is not known")
            self.push(UNKNOWN)

    @property
    def at(self) -> str:
        """The place of the instruction."""
        return f"byte {self.place}{self.within}"

    def push(self, value: Any) -> None:
        """Put a value on the stack; one that follows the name of a version is noted."""
        before = self.stack[-1] if self.stack else None
        if isinstance(before, str) and before == _VERSION_KEY and isinstance(value, str):
            self.contents.versions.setdefault("scikit-learn", set()).add(value)
        self.arrays += _is_array(value)
        self.stack.append(value)

    def pop_to_mark(self) -> list[Any]:
        """What is on the stack above the last mark, which is taken away too."""
        last = next(n for n in reversed(range(len(self.stack))) if self.stack[n] is MARK)
        found = self.stack[last + 1 :]
        del self.stack[last:]
        return found

    def name(self, module: Any, name: Any) -> None:
        """Push what a module's name stands for."""
        if type(module) is not str or type(name) is not str:
            self.contents.problems.append(f"what the instruction at {self.at} names is computed while it is read")
            self.push(UNKNOWN)
            return
        if self.protocol < 3:  # Python 2's names, as Python maps them
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        found = Named(module, name, self.at)
        self.contents.named.append(found)
        self.push(found)

    def constant(self, value: Any) -> Any:
        """A text, number or bytes; within bytes and texts another pickle may lie."""
        if isinstance(value, str) and (found := re.search(r"python(3\.\d+)", value)) and value.endswith(".py"):
            self.contents.paths.add(found[1])
        if isinstance(value, (bytes, bytearray)) and (version := xgboost_version(bytes(value))):
            self.contents.versions.setdefault("xgboost", set()).add(version)
        if isinstance(value, (bytes, bytearray)) or (isinstance(value, str) and "\n" in value):
            self.look_within(value)
            return bytes(value[:_LARGE]) if isinstance(value, (bytes, bytearray)) else value
        return value

    def look_within(self, value: bytes | bytearray | str) -> None:
        """Add what a pickle within a value names."""
        try:
            data = value.encode("latin-1") if isinstance(value, str) else bytes(value)
            if self.depth >= _DEEPEST:
                return
            found = self.nested(io.BytesIO(data), f" of the bytes at {self.at}", self.depth + 1)
        except (ModelRefused, UnicodeError):
            return  # it is none
        if found.named or found.problems:
            self.contents.named += found.named
            self.contents.problems += found.problems

    def call(self, of: Any, arguments: Any) -> None:
        """Push what a call would make, and note what code it would make."""
        if isinstance(of, Named) and of.name == "subimport":
            given = arguments[0] if isinstance(arguments, tuple) and arguments else None
            if isinstance(given, str):
                self.contents.imports.append(Named(given, "", self.at))
            else:
                self.contents.problems.append(f"the module that its code at {self.at} imports is computed")
        if _makes_code(of) and isinstance(arguments, tuple):
            self.contents.code_of |= {_python_of(arguments)}
        made = Made(of, arguments)
        self.arrays -= _is_array(origin(made))
        self.push(made)

    def finish(self) -> Contents:
        """What was found, once the last instruction is done.

        Where joblib's stand-in for an array is used otherwise than joblib does, it can't be told where one begins.
        """
        if self.arrays:
            self.contents.problems.append("it uses joblib's form of arrays in a way that joblib does not")
        self.contents.top = origin(self.result)
        return self.contents

    def build(self) -> None:
        """Give the object below its state; after that of an array of joblib's, the array itself follows."""
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, Made):
            made.state = state
            if _is_array(origin(made)):
                self.step_over_array(made)

    def step_over_array(self, made: Made) -> None:
        """Go to where the instructions continue behind an array of joblib's.

        Raises ValueError where its size is not told.
        """
        self.contents.joblib = True
        state = made.state if isinstance(made.state, Items) else {}
        shape, dtype = state.get("shape"), state.get("dtype")
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an array of joblib's does not tell its shape")
        if self.stream.tell() < self.frame_end:  # joblib would go on behind the frame
            raise ValueError("an array of joblib's begins within a frame")
        kind = dtype.arguments[0] if isinstance(dtype, Made) and isinstance(dtype.arguments, tuple) else None
        if not isinstance(kind, str) or dtype is None:
            raise ValueError("an array of joblib's does not tell its type")
        if _has_objects(kind, dtype.state):
            self.merge(self.nested(self.stream.stream, self.within, self.depth))
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self.skip(self.stream.read(1)[0])
        self.skip(int(np.prod(shape, dtype=object)) * np.dtype(kind).itemsize)

    def skip(self, size: int) -> None:
        """Read so many bytes away. Raises ValueError where there are fewer."""
        while size > 0:
            part = len(self.stream.read(min(size, _BLOCK)))
            if not part:
                raise ValueError("it ends within an array")
            size -= part

    def merge(self, other: Contents) -> None:
        """Add what a pickle within this one holds."""
        mine = self.contents
        mine.named += other.named
        mine.problems += other.problems
        mine.imports += other.imports
        mine.code_of |= other.code_of
        for library, found in other.versions.items():
            mine.versions.setdefault(library, set()).update(found)


def xgboost_version(content: bytes) -> str | None:
    """The version in XGBoost's binary JSON, which is the last thing in it; None where there is none."""
    if not content.startswith(b"{L"):
        return None
    found = re.findall(rb"L\0{7}\x07version\[#L\0{7}\x03i(.)i(.)i(.)", content[-200:], re.DOTALL)
    return ".".join(str(part[0]) for part in found[-1]) if found else None


def _is_array(value: Any) -> bool:
    """Whether it is joblib's stand-in for an array, behind whose state the array's own bytes lie."""
    return isinstance(value, Named) and value.module.endswith("joblib.numpy_pickle")


def _has_objects(kind: str, state: Any) -> bool:
    """Whether arrays of a dtype hold Python objects: by its letter, or by the flags in its state."""
    flags = state[7] if isinstance(state, tuple) and len(state) >= 8 and type(state[7]) is int else 0
    return kind.lstrip("<>|=").startswith("O") or bool(flags & 1)


def _makes_code(of: Any) -> bool:
    """Whether it is the type of compiled code, as cloudpickle names it."""
    if isinstance(of, Named):
        return of.name == "CodeType" or of.name.endswith("_create_code")
    return (
        isinstance(of, Made)
        and isinstance(of.of, Named)
        and of.of.name == "_builtin_type"
        and of.arguments == ("CodeType",)
    )


def _python_of(arguments: tuple[Any, ...]) -> str:
    """The Python that compiled a function, by the number of its parts and the first instruction of its code."""
    if len(arguments) < 18:
        return "3.8 to 3.10" if len(arguments) == 16 else "before 3.8"
    code = next((part for part in arguments if isinstance(part, bytes)), b"")
    resume = {151: "3.11 or 3.12", 149: "3.13", 128: "3.14"}
    return next((resume[op] for op in code[:8:2] if op in resume), "3.11 or later")
