"""What the demo shows beside its first model: the network's scores are Keras' own, and an imported pickle scores alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lakehouse.demo
from lakehouse import cli, models
from lakehouse.config import load_job
from lakehouse.demo import beside, run
from lakehouse.demo.data import FLAGS
from lakehouse.models.loading import environment
from tests.conftest import read, score

PROJECT = Path(__file__).parents[2]
# Keras: its variables don't know NumPy 2's keyword yet, which only its own releases can mend
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def job(conf: str) -> Any:
    return load_job(f"conf/{conf}.yaml", date=run.DATE, environ=os.environ)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project's folder with the demo's tables, its first model, and that model's scores of a date."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "conf", root / "conf")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(beside, "lakehouse", in_this_process)
        run.prepare(3_000, beside.GAMES)
        assert score(job("games")).status == "published"
        yield root


def in_this_process(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert ended.value.code in (None, 0)


def in_order(shown: str, *texts: str) -> None:
    found = [shown.find(text) for text in texts]
    assert -1 not in found, (texts[found.index(-1)], shown)
    assert found == sorted(found)


@pytest.fixture(scope="module")
def network(lake: Path) -> Path:
    """The same with the network's scores."""
    beside.network(run.DATE)
    return lake


@pytest.mark.long
def test_the_networks_scores_are_those_of_kerass_own_predict(network: Path, tmp_path: Path) -> None:
    config = job("keras_games").model
    folder = models.fetch(config, models.resolve(config), tmp_path).path
    with environment({"KERAS_BACKEND": "jax"}):
        import keras
    own = keras.saving.load_model(next(Path(folder).rglob("*.keras")))
    scored = read("lake/scores/keras_games").to_pandas()
    features = read("lake/features/games").to_pandas()
    features = features[features["event_date"].astype(str) == run.DATE].set_index("player_id")
    given = features.loc[scored["player_id"], list(FLAGS)].to_numpy()
    assert np.isnan(given).any()
    expected = own.predict(given, verbose=0)[:, 0]
    np.testing.assert_allclose(scored["purchase_probability"], expected, rtol=1e-5)
    assert (len(scored), expected.std() > 0.01) == (len(features) - 1, True)  # one owns seven copies of a game


@pytest.mark.long
def test_both_are_shown_and_the_second_time_what_is_there_is_not_made_again(network: Path, capfd: Any) -> None:
    capfd.readouterr()
    beside.imported(run.DATE)
    in_order(
        capfd.readouterr().out,
        "── 7  a classic pickle of logit_games, lake/logit_games.pkl: lakehouse model inspect lake/logit_games.pkl",
        "sklearn.pipeline.Pipeline with SimpleImputer, LogisticRegression",
        "── 8  imported: lakehouse model import lake/logit_games.pkl --name pickled_games --features lake/features/games",
        "registered pickled_games v1 as champion, stored as skops: it answers 8,910 rows",
        "the job conf/games.yaml with it, publishing nothing: 2,909 players; their probabilities are the ",
    )
    beside.network(run.DATE)
    beside.imported(run.DATE)
    in_order(
        capfd.readouterr().out,
        "── 5  a second model on the same players: a neural network, registered as keras_games@champion",
        "it is registered already, v1",
        "UNCHANGED  lake/scores/keras_games",
        "2,909 players have a score of both models; their probabilities are 0.0",
        "it was imported already, as pickled_games v1",
    )


@pytest.mark.long
def test_without_keras_this_is_said_and_the_demo_goes_on(lake: Path, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.delattr(lakehouse.demo, "network", raising=False)
    monkeypatch.delitem(sys.modules, "lakehouse.demo.network", raising=False)
    monkeypatch.setitem(sys.modules, "keras", None)
    beside.network(run.DATE)
    shown = capfd.readouterr().out
    assert "left out: it takes Keras and JAX (" in shown
    assert "`make setup` installs both, or pip install keras jax" in shown


@pytest.mark.slow
@pytest.mark.long
def test_the_demo_runs_from_end_to_end(workspace: Path) -> None:
    shutil.copytree(PROJECT / "conf", "conf")
    shutil.copytree(PROJECT / "jobs", "jobs")
    command = [sys.executable, "-m", "lakehouse.cli", "demo", "--rows", "3000"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    in_order(
        done.stdout,
        *(f"── {number}  " for number in range(1, 10)),
        "2,909 rows in both, largest difference of a probability",
    )
    in_order(done.stdout, "PUBLISHED  lake/scores/games v1", "UNCHANGED", "PUBLISHED  lake/scores/keras_games v1")
