"""What differs between the dialects of `lakehouse sql`: one module a dialect, all with what `Dialect` lists.

A dialect is found by its module's name, so a further one is a further file here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from sqlglot import exp

from lakehouse.errors import ConfigError, nearest


@dataclass(frozen=True)
class Statement:
    """A statement without its semicolon, and what to say before it. An example is printed as a comment.

    `view`: the name of the view that it creates, `reads`: those of the tables that the view reads.
    """

    about: str
    sql: str
    example: bool = False
    view: str = ""
    reads: frozenset[str] = frozenset()


class Dialect(Protocol):
    """What a module of this package says."""

    NAME: str
    """The dialect as sqlglot names it too; the name of the module."""

    CATALOG: bool
    """Whether it finds tables by the names of Spark's catalog."""

    ZONES: bool
    """Whether its views can hold moments with a time zone; those that can't hold UTC without one."""

    def cased(self, name: str) -> str:
        """A name that lakehouse gives to a table or view, in the case that is usual there."""

    def column(self, name: str) -> str:
        """A column's name as the table has it there."""

    def reading(
        self, name: str, uris: Mapping[str, str]
    ) -> tuple[Mapping[str, exp.Table], Mapping[str, Sequence[Statement]]]:
        """How Delta tables are read where they lie: the tables as SQL names them, and what each needs to be run before.

        Both are by suffix, as the `uris` are; `name` is that of the table without one. Raises ConfigError for a table
        that can't be read.
        """

    def properties(self, *, named: bool) -> Sequence[exp.Expr]:
        """What CREATE VIEW says besides name and query; `named`: the view's table has a name of its own there."""

    def rise(self, now: exp.Expr, before: exp.Expr) -> exp.Expr | None:
        """How much greater `now` is, null where the two are no numbers; None where SQL needs to know before."""

    def exploded(self, array: exp.Expr, fields: Sequence[str]) -> tuple[exp.Join, Sequence[exp.Expr]]:
        """The join that makes a row of each struct in an array, under the alias `r`, and the structs' fields in it."""


def names() -> tuple[str, ...]:
    """The known dialects."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def of(name: str) -> Dialect:
    """The module of a dialect. Raises ConfigError for an unknown one."""
    if name not in names():
        raise ConfigError(f"{name!r} is no dialect of lakehouse sql, {nearest(name, names())}")
    return cast(Dialect, import_module(f"{__name__}.{name}"))


def literal(value: str, dialect: str) -> str:
    """A text as the dialect writes it."""
    return exp.Literal.string(value).sql(dialect)


def unnested(array: exp.Expr, columns: Sequence[str]) -> exp.Join:
    """The join with a row an element of the array, in these columns of `r`."""
    held = [exp.to_identifier(name, quoted=True) for name in columns]
    alias = exp.TableAlias(this=exp.to_identifier("r", quoted=True), columns=held)
    return exp.Join(this=exp.Unnest(expressions=[array], alias=alias), kind="CROSS")


def structs(array: exp.Expr, fields: Sequence[str]) -> tuple[exp.Join, list[exp.Expr]]:
    """`Dialect.exploded` where each row has its struct as a whole."""
    whole = exp.column("reason", quoted=True)
    values = [exp.Dot(this=whole.copy(), expression=exp.to_identifier(name, quoted=True)) for name in fields]
    return unnested(array, ["reason"]), [*values]


def unchanged(name: str) -> str:
    """`Dialect.cased` and `Dialect.column` where names stay as they are."""
    return name


def no_properties(*, named: bool) -> Sequence[exp.Expr]:
    """`Dialect.properties` where there are none."""
    return []


def no_rise(now: exp.Expr, before: exp.Expr) -> exp.Expr | None:
    """`Dialect.rise` where what is subtracted has to be a number."""
    return None
