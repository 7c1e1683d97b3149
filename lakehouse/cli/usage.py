"""Options that a command would ignore are refused: one that is given twice, and one that another leaves no part."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from typer.core import TyperCommand


@dataclass(frozen=True)
class Only:
    """In the annotation of a parameter: it plays a part only together with this one."""

    beside: str


@dataclass(frozen=True)
class Never:
    """In the annotation of a parameter: it plays no part together with any of these."""

    beside: tuple[str, ...]


def refusing(function: Callable[..., Any]) -> type[TyperCommand]:
    """The class of the command that is made of the function."""
    marks = [
        (name, mark)
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        for mark in getattr(parameter.annotation, "__metadata__", ())
        if isinstance(mark, Only | Never)
    ]

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            given = self.make_parser(ctx).parse_args(args=list(args))[2]
            for one in given:
                if one.param_type_name == "option" and not one.multiple and given.count(one) > 1:
                    ctx.fail(f"{max(one.opts, key=len)} is given {given.count(one)} times: once is enough")
            _refuse_ignored(ctx, given, marks)
            return super().parse_args(ctx, args)

    return Command


def _refuse_ignored(ctx: Any, given: Sequence[Any], marks: Sequence[tuple[str, Only | Never]]) -> None:
    names = {one.name for one in given}
    called = {one.name: max(one.opts, key=len) for one in ctx.command.params}
    for name, mark in marks:
        if name not in names:
            continue
        if isinstance(mark, Only) and mark.beside not in names:
            ctx.fail(f"{called[name]} plays a part only together with {called[mark.beside]}")
        for other in mark.beside if isinstance(mark, Never) else ():
            if other in names:
                ctx.fail(f"{called[name]} plays no part together with {called[other]}: leave one of them out")
