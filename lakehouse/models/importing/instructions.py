"""What each instruction of a pickle does, on the stand-ins of `machine`. Constants are dealt with there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lakehouse.models.importing.machine import MARK, UNKNOWN, Items, Machine

Action = Callable[[Machine, Any], None]


def _items(machine: Machine, pairs: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Items):
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(key, str):
                target[key] = value


def _make_dict(machine: Machine, _: Any) -> None:
    pairs = machine.pop_to_mark()
    machine.push(Items())
    _items(machine, pairs)


def _set_one(machine: Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _items(machine, [key, value])


def _global(machine: Machine, argument: str) -> None:
    machine.name(*argument.split(" ", 1))


def _stack_global(machine: Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.name(module, name)


def _inst(machine: Machine, argument: str) -> None:
    arguments = tuple(machine.pop_to_mark())
    _global(machine, argument)
    machine.call(machine.stack.pop(), arguments)


def _obj(machine: Machine, _: Any) -> None:
    of, *arguments = machine.pop_to_mark()
    machine.call(of, tuple(arguments))


def _reduce(machine: Machine, _: Any) -> None:
    arguments, of = machine.stack.pop(), machine.stack.pop()
    machine.call(of, arguments)


def _new_with_names(machine: Machine, _: Any) -> None:
    named, arguments, of = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.call(of, arguments if not named else (arguments, named))


def _unknowable(what: str) -> Action:
    def note(machine: Machine, argument: Any) -> None:
        machine.contents.problems.append(f"at {machine.at} it takes {what}")
        if machine.stack and what.startswith("an object") and argument is None:
            machine.stack.pop()
        machine.push(UNKNOWN)

    return note


def _tuple(size: int) -> Action:
    def make(machine: Machine, _: Any) -> None:
        parts = [machine.stack.pop() for _ in range(size)]
        machine.push(tuple(reversed(parts)))

    return make


def _pop(machine: Machine, _: Any) -> None:
    machine.stack.pop()


def _remember(machine: Machine, argument: Any) -> None:
    machine.memo[len(machine.memo) if argument is None else int(argument)] = machine.stack[-1]


def _recall(machine: Machine, argument: Any) -> None:
    machine.push(machine.memo[int(argument)])


def _start(machine: Machine, argument: int) -> None:
    machine.protocol = argument
    machine.contents.protocol = max(machine.contents.protocol, argument)


def _frame(machine: Machine, argument: int) -> None:
    machine.frame_end = machine.stream.tell() + argument


def _stop(machine: Machine, _: Any) -> None:
    machine.result = machine.stack.pop()


def _collect(machine: Machine, _: Any) -> None:
    machine.pop_to_mark()


def _collected(machine: Machine, _: Any) -> None:
    machine.pop_to_mark()
    machine.push(UNKNOWN)


def _nothing(machine: Machine, _: Any) -> None:
    pass


_CONSTANTS: dict[str, Any] = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "EMPTY_LIST": UNKNOWN, "EMPTY_SET": UNKNOWN,
}  # fmt: skip


def _constant(value: Any) -> Action:
    return lambda machine, _: machine.push(value)


_EXTENSION = _unknowable("something of copyreg's registry of extensions, which only the writer's process knew")
_PERSISTENT = _unknowable("an object from outside (a persistent id)")
_OUTSIDE = _unknowable("a buffer that is not in the file")
ACTIONS: dict[str, Action] = {
    "PROTO": _start, "FRAME": _frame, "STOP": _stop, "POP": _pop, "POP_MARK": _collect,
    "MARK": lambda machine, _: machine.stack.append(MARK), "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "GLOBAL": _global, "STACK_GLOBAL": _stack_global, "INST": _inst, "OBJ": _obj, "REDUCE": _reduce,
    "NEWOBJ": _reduce, "NEWOBJ_EX": _new_with_names, "BUILD": lambda machine, _: machine.build(),
    "EXT1": _EXTENSION, "EXT2": _EXTENSION, "EXT4": _EXTENSION, "PERSID": _PERSISTENT, "BINPERSID": _PERSISTENT,
    "NEXT_BUFFER": _OUTSIDE, "READONLY_BUFFER": _nothing,
    "PUT": _remember, "BINPUT": _remember, "LONG_BINPUT": _remember, "MEMOIZE": _remember,
    "GET": _recall, "BINGET": _recall, "LONG_BINGET": _recall,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple(1), "TUPLE2": _tuple(2), "TUPLE3": _tuple(3),
    "EMPTY_DICT": lambda machine, _: machine.push(Items()), "DICT": _make_dict, "SETITEM": _set_one,
    "SETITEMS": lambda machine, _: _items(machine, machine.pop_to_mark()),
    **{name: _constant(value) for name, value in _CONSTANTS.items()},
    "LIST": _collected, "FROZENSET": _collected, "APPEND": _pop, "APPENDS": _collect, "ADDITEMS": _collect,
}  # fmt: skip
