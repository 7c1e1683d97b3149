"""What is measured, in which order, by whom, and what is asked for: the short form and the full one, as data."""

from __future__ import annotations

from dataclasses import dataclass

SHORT_S, FULL_S = 270.0, 1_440.0
"""Seconds that a form may take in all, and a little more: no turn begins that would end later."""


@dataclass(frozen=True)
class Workload:
    """One table and one model, scored in turns by some contestants, the floor first: warm, or cold.

    `files`: how many the table is in; `share`: of the time, beside those of the others; `turns`: at most so many.
    """

    name: str
    mode: str
    shape: str
    model: str
    rows: int
    files: int
    contestants: tuple[str, ...]
    turns: int
    share: float


COLD = ("floor", "local", "unchanged", "one", "files", "bare")


def short(rows: int) -> list[Workload]:
    """One model, warm and cold, by those who are near; the others are left to the full form."""
    warm = ("floor", "files", "frame", "local", "tuned", "one", "daft")
    return [
        Workload("logistic", "warm", "narrow", "logistic", rows, 16, warm, 3, 5),
        Workload("cold", "cold", "narrow", "logistic", min(rows, 10_000), 1, COLD, 2, 5),
    ]


def full(rows: int) -> list[Workload]:
    """All models, all shapes, everybody."""
    everybody = ("floor", "files", "frame", "local", "default", "tuned", "stacks", "one", "daft", "ray")
    near = ("floor", "files", "local", "one", "daft")
    few, small = rows // 4, max(rows // 2_000, 17)
    return [
        Workload("logistic", "warm", "narrow", "logistic", rows, 16, everybody, 4, 13),
        Workload("cold", "cold", "narrow", "logistic", min(rows, 10_000), 1,
                 (*COLD, "default", "tuned", "daft", "ray"), 3, 8),
        Workload("boosting", "warm", "narrow", "boosting", rows, 16, near, 3, 5),
        Workload("forest", "warm", "narrow", "forest", few, 16, (*near, "tuned"), 3, 3),
        Workload("sixteen", "warm", "narrow", "logistic", few, 16, ("floor", "files", "local"), 3, 0.5),
        Workload("small", "warm", "narrow", "logistic", few, small, ("floor", "files", "local", "one"), 3, 1.5),
        Workload("big", "warm", "narrow", "logistic", rows, 1, near, 3, 2),
        Workload("wide", "warm", "wide", "logistic", rows // 20, 16, (*near, "tuned"), 3, 2),
        Workload("mixed", "warm", "mixed", "logistic", few, 16, (*near, "tuned"), 3, 3),
    ]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A ratio of medians that is asked for: `mine` over `other`, each a workload and a contestant; at most `most`,
    or, where `faster`, the other's over mine at least so much."""

    text: str
    mine: tuple[str, str]
    other: tuple[str, str]
    asked: float
    faster: bool = False


def _of(workload: str, name: str, text: str, other: str, asked: float, faster: bool = False) -> Target:
    return Target(text, (workload, name), (workload, other), asked, faster)


_LOGISTIC = "logistic, warm, `files`, Spark: "
TARGETS = [
    _of("logistic", "files", _LOGISTIC + "times as fast as (b)", "tuned", 22, True),
    _of("logistic", "files", _LOGISTIC + "times as fast as (e)", "daft", 1.5, True),
    _of("logistic", "files", _LOGISTIC + "× the floor", "floor", 1.6),
    _of("logistic", "local", "the same, local engine: × the floor", "floor", 1.3),
    _of("logistic", "frame", "the same, `frame`: times as fast as (b)", "tuned", 3.5, True),
    _of("boosting", "files", "gradient boosting, `files`, Spark: × the floor", "floor", 1.1),
    _of("boosting", "local", "gradient boosting, local engine: × the floor", "floor", 1.1),
    _of("forest", "files", "forest, `files`, Spark: × the floor", "floor", 1.1),
    _of("forest", "local", "forest, local engine: × the floor", "floor", 1.1),
    _of("cold", "files", "10,000 rows cold, Spark: × a bare session with one count", "bare", 1.4),
    _of("cold", "local", "10,000 rows cold, local: × (d) cold", "one", 0.6),
    _of("cold", "unchanged", "UNCHANGED: × (d) cold", "one", 0.25),
    Target("small files, `files`, Spark: × the same rows in 16", ("small", "files"), ("sixteen", "files"), 1.3),
    Target("small files, local engine: × the same rows in 16", ("small", "local"), ("sixteen", "local"), 1.3),
]
