"""The dates from one to another, and dates as people read them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from datetime import date, timedelta
from itertools import count, takewhile

from lakehouse.errors import ConfigError
from lakehouse.operations import dated

EVERY = ("day", "week", "month")
_LAST_OF_ALL_MONTHS = 28


def dates(first: str, last: str, every: str = "day") -> list[str]:
    """The dates from the first to the last one, both included, as YYYY-MM-DD. Raises ConfigError."""
    if every not in EVERY:
        raise ConfigError(f"--every: {every!r} is none: use {', '.join(EVERY)}")
    begin, end = dated.parse(first, "--from"), dated.parse(last, "--to")
    if end < begin:
        raise ConfigError(f"--to {last} lies before --from {first}")
    if every == "month" and begin.day > _LAST_OF_ALL_MONTHS:
        raise ConfigError(f"--from {first}: not every month has a {begin.day}th: begin at the 28th or earlier")
    step = _next_month if every == "month" else _days_later(7 if every == "week" else 1)
    return [str(day) for day in takewhile(lambda day: day <= end, _steps(begin, step))]


def _steps(begin: date, step: Callable[[date, int], date]) -> Iterator[date]:
    with suppress(OverflowError, ValueError):  # there is no date after 9999-12-31
        yield from (step(begin, number) for number in count())


def _days_later(days: int) -> Callable[[date, int], date]:
    return lambda begin, number: begin + timedelta(days=days * number)


def _next_month(begin: date, number: int) -> date:
    years, month = divmod(begin.month - 1 + number, 12)
    return begin.replace(year=begin.year + years, month=month + 1)


def spans(some: Collection[str], every: Sequence[str]) -> str:
    """Some of these dates for people: those that follow one another as the first to the last one."""
    found: list[list[str]] = []
    for before, day in zip(["", *every], every, strict=False):
        if day in some and before in some:
            found[-1].append(day)
        elif day in some:
            found.append([day])
    return ", ".join(one[0] if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in found)
