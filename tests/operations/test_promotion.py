"""`lakehouse promote`: the alias moves by the job's rules alone, once, and nobody else's move is undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from sklearn.linear_model import LinearRegression, LogisticRegression

import lakehouse
from lakehouse import models
from lakehouse.config import Promotion
from lakehouse.operations import promotion
from lakehouse.operations.promotion import problems
from lakehouse.runs import ledger
from tests.command import Outcome, run
from tests.conftest import read, version, write

DAY = "2026-01-02"
CONF = "conf/scores.yaml"
X = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})


class Arena:
    """A model of three versions, the first one at `champion`, and a job that compares the second with it."""

    def __init__(self, name: str, tracking_uri: str, register: Any, capfd: Any, make_job: Any) -> None:
        self.name, self.capfd, self.client, self.register = name, capfd, mlflow.MlflowClient(tracking_uri), register
        for alias, above in (("champion", 2), ("challenger", 3), ("other", 2.5)):
            register(LogisticRegression().fit(X, (X["a"] > above).astype(int)), X, name=name, alias=alias)
        self.make_job = make_job
        self.write()

    def write(self, uri: str | None = None, challenger: Any = None, **sections: Any) -> None:
        """The job file; `sections` change it."""
        given = {
            "source": {"where": "day = '{date}'"}, "keep": ["country"],
            "predictions": {"p": {"class": 1}, "buys": {"class": 1, "threshold": 0.5}},
            "slice": {"score_date": "{date}"}, "promotion": {"max_flips": 1.0}, "comparison": {"by": "country"},
        }  # fmt: skip
        model = {"method": "predict_proba", "challengers": [challenger or f"models:/{self.name}@challenger"]}
        sections = {**given, **sections}
        sections = {name: section for name, section in sections.items() if section is not None}
        self.make_job(uri or f"models:/{self.name}@champion", date=DAY, model=model, **sections)

    def score(self, *more: str) -> None:
        done = run(self.capfd, "score", CONF, "--date", DAY, "--engine", "local", *more)
        assert done.code == 0, done.err

    def promote(self, version: str = "2", *more: str) -> Outcome:
        return run(self.capfd, "promote", CONF, version, *more)

    def at(self, alias: str = "champion") -> str:
        """The version that an alias names."""
        return str(self.client.get_model_version_by_alias(self.name, alias).version)

    def move(self, alias: str, version: str) -> None:
        self.client.set_registered_model_alias(self.name, alias, version)


@pytest.fixture
def arena(make_job, register, tracking_uri, capfd):
    ids = np.arange(40)
    country = np.where(ids % 2 == 0, "DE", "FR")
    write("lake/features", pa.table({"id": ids, "country": country, "a": ids * 0.1, "b": np.cos(ids),
                                     "day": [DAY] * 40}), ["day"])  # fmt: skip
    return Arena(f"rivals_{uuid.uuid4().hex[:8]}", tracking_uri, register, capfd, make_job)


def test_a_compared_version_is_promoted_once(arena):
    arena.score()
    run_id = read("lake/scores")["_run_id"][0].as_py()
    done = arena.promote("2", "--json")
    assert (done.code, done.err, arena.at()) == (0, "", "2")
    assert done.json == {"status": "promoted", "name": arena.name, "alias": "champion", "before": "1", "version": "2",
                         "run_id": run_id}  # fmt: skip
    again = arena.promote()
    assert (again.code, again.out) == (0, f"{arena.name}@champion: at version 2 already\n")
    kept = read("lake/scores_state/promotions").to_pylist()
    assert [(row["number"], row["before"], row["version"], row["run_id"]) for row in kept] == [(1, "1", "2", run_id)]
    arena.score()  # the challenger is the champion now
    back = arena.promote("1")
    assert (back.code, "version '1'" in back.err, arena.at()) == (2, True, "2")


def test_a_rule_that_is_broken_is_named_and_the_alias_stays(arena):
    arena.score()
    arena.write(promotion={"max_shift": 1e-9, "min_rows": 41, "max_flips": 0.0})
    done = arena.promote("2", "--json")
    assert (done.code, done.json["status"], arena.at()) == (3, "blocked", "1")
    head, *lines = done.err.splitlines()
    assert head.startswith(f"blocked: {arena.name} v2 is not promoted, by the comparison of run ")
    assert lines[0] == "  only 40 rows were compared, min_rows asks for 41"
    assert len(lines) == 5, "a finding a line: rows, flips, and the shift of p in all and in two countries"
    assert "buys differs in " in done.err
    assert "the mean of p moves by " in done.err
    assert " where country is FR, max_shift allows 1e-09" in done.err
    assert version("lake/scores_state/promotions") == -1


def test_words_where_there_is_nothing_to_go_by(arena):
    nothing = arena.promote()
    assert (nothing.code, "no published run of scores compared a challenger: " in nothing.err) == (2, True)
    arena.score()
    unknown = arena.promote("7")
    assert (unknown.code, f"version '7' of {arena.name} was not compared by the last comparison" in unknown.err) == (
        2,
        True,
    )
    assert "which was with 2: name it in model.challengers and score" in unknown.err
    label = arena.promote("challenger")
    assert (label.code, arena.at()) == (2, "1")
    assert f"'challenger' is the name of a challenger, version 2 of {arena.name}: promote 2" in label.err
    arena.write(promotion=None)
    without = arena.promote()
    assert (without.code, "promotion: the job has no rules for it: add for example" in without.err) == (2, True)
    arena.write(uri=f"models:/{arena.name}/1")
    number = arena.promote()
    assert (number.code, f"names no alias that could move: use models:/{arena.name}@<alias>" in number.err) == (2, True)
    missing = run(arena.capfd, "promote", CONF)
    assert (missing.code, "Missing argument 'VERSION'" in missing.err) == (2, True)


def test_a_comparison_with_another_champion_is_none(arena, register):
    arena.score()
    arena.move("champion", "3")
    moved = arena.promote()
    assert (moved.code, arena.at()) == (3, "3")
    assert (
        f"{arena.name}@champion is version 3 by now, and was 1 when version 2 was compared with it: score again"
        in moved.err
    )
    other = register(LogisticRegression().fit(X, (X["a"] > 2).astype(int)), X, name=f"{arena.name}_new")
    arena.write(uri=other)
    renamed = arena.promote()
    assert (renamed.code, f"was with {arena.name} v1, and the job names {arena.name}_new now" in renamed.err) == (
        2,
        True,
    )


def test_a_version_that_is_gone_is_said(arena):
    arena.score()
    arena.client.delete_model_version(arena.name, "2")
    gone = arena.promote()
    assert (gone.code, arena.at(), "Traceback" in gone.err) == (2, "1", False)
    assert f"{arena.name}" in gone.err


def test_a_target_has_rules_and_an_alias_of_its_own(arena):
    shared = {"targets": {"prod": {"promotion": {"max_flips": 0.0}}, "dev": {"promotion": {"max_flips": 1.0}}}}
    Path("conf/lakehouse.yaml").write_text(yaml.safe_dump(shared))
    arena.score("--target", "prod")
    assert (arena.promote("2", "--target", "prod").code, arena.at()) == (3, "1")
    assert (arena.promote("2", "--target", "dev").code, arena.at()) == (0, "2")


def test_a_version_that_was_called_otherwise_is_not_what_would_be_promoted(arena):
    arena.write(challenger={"uri": f"models:/{arena.name}@challenger", "trust": ["pickle"]})
    arena.score()
    done = arena.promote()
    assert (done.code, "it was compared with other model.trust than the job's" in done.err) == (3, True)


def test_another_promote_at_work_is_left_alone(arena, monkeypatch):
    """Whoever enters the next number first moves the alias; a number that was left behind holds nobody up for long."""
    arena.score()
    moving, began = models.move_alias, []

    def both(*arguments: Any) -> None:
        monkeypatch.setattr(promotion.models, "move_alias", moving)
        began.append(arena.promote("2"))  # while the first one has entered its number, and not moved the alias yet
        moving(*arguments)

    monkeypatch.setattr(promotion.models, "move_alias", both)
    assert arena.promote("2").code == 0
    assert (began[0].code, "is being moved to version 2 since " in began[0].err) == (5, True)

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    arena.move("champion", "1")
    arena.score("--rescore")
    later = ledger.now() + 2 * promotion._AT_WORK
    monkeypatch.setattr(promotion.ledger, "now", lambda: later)
    monkeypatch.setattr(promotion.models, "move_alias", die)
    assert (arena.promote("2").code, arena.at()) == (130, "1")
    monkeypatch.setattr(promotion.models, "move_alias", moving)
    assert arena.promote("2").code == 5
    monkeypatch.setattr(promotion.ledger, "now", lambda: later + promotion._AT_WORK)
    done = arena.promote("2")
    assert (done.code, arena.at()) == (0, "2"), done.err


@pytest.mark.long
def test_of_processes_that_promote_at_once_one_moves_the_alias(arena):
    arena.write(challenger=f"models:/{arena.name}@challenger")
    arena.score()
    path = os.pathsep.join([str(Path(lakehouse.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "lakehouse.cli", "promote", CONF, "2", "--json"]
    started = [
        subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    assert [one["status"] for one in said].count("promoted") == 1, said
    assert arena.at() == "2"
    assert len(read("lake/scores_state/promotions")) == 1


def figures(**more: Any) -> dict[str, Any]:
    """How a challenger compares that is like the model, but for `more`."""
    prediction = {"name": "p", "rows": 100, "missing": 0, "flips": None, "shift": 0.0, "segments": []}
    return {"rows": 100, "failed": 0, "by": None, "predictions": [prediction], **more}


@pytest.mark.parametrize(
    ("rules", "found", "said"),
    [
        ({"max_flips": 1.0}, figures(), "no prediction is a label or a decision, as max_flips asks for"),
        ({"max_shift": 1.0}, figures(predictions=[{**figures()["predictions"][0], "shift": None}]), "no prediction is a number"),
        ({"max_shift": 1.0}, figures(predictions=[{**figures()["predictions"][0], "shift": float("nan")}]), "moves by +nan"),
        ({}, figures(failed=1), "it failed on 1 of 100 rows, max_failed allows 0.00%"),
        ({}, figures(predictions=[{**figures()["predictions"][0], "missing": 9}]), "it gives no p for 9 of 100 rows"),
    ],
)  # fmt: skip
def test_a_rule_that_nothing_can_be_held_against_is_broken(rules, found, said):
    [problem] = problems(Promotion(**rules), found)
    assert said in problem


@pytest.mark.parametrize(("apart", "said"), [(199, []), (200, [""])])
def test_shifts_of_values_that_are_not_kept_apart_are_not_taken_for_none(apart, said):
    """+5 and -5 together are none; in a comparison of few values, which is an older one, the text was a value."""
    parts = [{"segment": str(n), "rows": 1, "shift": 0.0} for n in range(apart - 1)]
    parts += [{"segment": "…", "rows": 20, "shift": 0.0}]
    found = figures(by="country", predictions=[{**figures()["predictions"][0], "segments": parts}])
    against = list(problems(Promotion(max_shift=1.0), found))
    assert len(against) == len(said)
    assert all("country has more than 200 values" in one and "20 rows of others are in one" in one for one in against)
    assert list(problems(Promotion(), found)) == []


def test_a_model_without_labels_is_judged_by_its_shift(arena, register, make_job):
    uri = register(LinearRegression().fit(X, X["a"]), X, name=f"{arena.name}_line")
    register(LinearRegression().fit(X, X["a"] + 0.25), X, name=f"{arena.name}_line", alias="challenger")
    make_job(uri, date=DAY, source={"where": "day = '{date}'"}, promotion={"max_shift": 0.2},
             model={"challengers": [f"models:/{arena.name}_line@challenger"]})  # fmt: skip
    arena.score()
    done = arena.promote()
    assert (done.code, "the mean of prediction moves by +0.25, max_shift allows 0.2" in done.err) == (3, True)
