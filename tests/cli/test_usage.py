"""Options that can't do what they say are refused before any work: files that can't be written, options that are ignored."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse.cli import commands
from lakehouse.cli.outputs import Writes
from tests.command import run

_RUN = ("--run", "r")


@pytest.fixture(autouse=True)
def places(workspace: Path) -> None:
    """A job that reads nothing, a file and a folder."""
    Path("conf").mkdir(exist_ok=True)
    Path("conf/a.yaml").write_text("job: a\n")
    Path("file").write_text("")
    Path("folder").mkdir()


@pytest.mark.parametrize(
    "words",
    [
        ("prove", "conf/a.yaml", "--key", "1", "--out"),
        ("diff", "conf/a.yaml", *_RUN, "--out"),
        ("report", "conf/a.yaml", "--out"),
        ("report", "conf/a.yaml", "--gx"),
        ("schema", "--out"),
        ("init", "models:/m@a", "lake/t", "--out"),
    ],
)
def test_what_can_not_be_written_is_refused_before_the_work(capfd: Any, words: tuple[str, ...]) -> None:
    done = run(capfd, *words, "file/page.html")
    assert (done.code, done.err.splitlines()[-1]) == (
        2,
        f"failed: {words[-1]} file/page.html can't be written: {Path.cwd()}/file is no folder",
    )
    if words[-1] == "--out":
        done = run(capfd, *words, "folder")
        assert (done.code, done.err.splitlines()[-1]) == (
            2,
            "failed: --out folder can't be written: it is a folder: name a file in it",
        )
    assert not list(Path("folder").iterdir())


EVERY = [
    *(function for group in commands.GROUPS.values() for function in group),
    *commands.MODEL.values(),
    *commands.REGISTER.values(),
]


def test_every_number_has_a_least_one() -> None:
    without = [
        f"{function.__name__} {name}"
        for function in EVERY
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        for mark in getattr(parameter.annotation, "__metadata__", ())
        if parameter.annotation.__origin__ in (int, float, int | None, float | None) and getattr(mark, "min", 0) is None
    ]
    assert without == []


def test_every_option_that_is_a_path_says_whether_it_is_written() -> None:
    """Paths that are read are given here by name."""
    read = {("demo", "csv"), ("inspect", "file"), ("import_", "file")}
    unsaid = {
        (function.__name__, name)
        for function in EVERY
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if "Path" in str(parameter.annotation)
        and not any(isinstance(mark, Writes) for mark in getattr(parameter.annotation, "__metadata__", ()))
    }
    assert unsaid == read


def test_a_file_in_a_folder_that_is_not_there_is_written(capfd: Any) -> None:
    assert run(capfd, "schema", "--out", "new/job.schema.json").code == 0
    assert json.loads(Path("new/job.schema.json").read_text())["title"] == "lakehouse job file"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("score", "--date", "2026-01-01", "--date", "2026-01-02"), "--date is given 2 times: once is enough"),
        (("score", "--json", "--json"), "--json is given 2 times: once is enough"),
        (("score", "--dry-run", "--hold"), "--hold plays no part together with --dry-run: leave one of them out"),
        (("score", "--verify", "--hold"), "--verify plays no part together with --hold: leave one of them out"),
        (("verify", "--all", "--sample", "3"), "--sample plays no part together with --all: leave one of them out"),
        (("verify", "--all", "--seed", "3"), "--seed plays no part together with --all: leave one of them out"),
        (
            ("parity", "--url", "http://x", "--all", "--rows", "3"),
            "--rows plays no part together with --all: leave one of them out",
        ),
        (("report", "--gx", "a", "--out", "b"), "--gx plays no part together with --out: leave one of them out"),
        (("recall", "--parallel", "2"), "--parallel plays a part only together with --rescore"),
        (("recall", "--keep-going"), "--keep-going plays a part only together with --rescore"),
        (
            ("backfill", "--from", "2026-01-01", "--to", "2026-01-02", "--hours-after", "2"),
            "--hours-after plays a part only together with --as-of",
        ),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(capfd: Any, words: tuple[str, ...], said: str) -> None:
    done = run(capfd, words[0], "conf/a.yaml", *words[1:])
    assert done.code == 2
    assert said in " ".join(done.err.replace("│", " ").split())


def test_an_option_that_takes_many_values_is_given_many_times(capfd: Any) -> None:
    done = run(capfd, "score", "conf/a.yaml", "--set", "a=1", "--set", "b=2")
    assert (done.code, "times" in done.err) == (2, False)


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_number_of_runs_that_is_none_is_refused(capfd: Any, limit: str) -> None:
    done = run(capfd, "runs", "conf/a.yaml", "--limit", limit)
    assert (done.code, "--limit" in done.err) == (2, True)
