"""What the demo shows beside its first model: a neural network by a job of its own, and a classic pickle imported."""

from __future__ import annotations

import pickle
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pyarrow as pa

from lakehouse.api import preview
from lakehouse.connectors.delta import open_table, rows_of
from lakehouse.demo import train
from lakehouse.demo.commands import LAKE, TRACKING, lakehouse, step
from lakehouse.errors import LakehouseError
from lakehouse.storage import locate

NETWORK, IMPORTED = "keras_games", "pickled_games"
GAMES, CONF = Path("conf/games.yaml"), Path("conf/keras_games.yaml")
PICKLE = LAKE / "logit_games.pkl"
FEATURES = str(LAKE / "features/games")
PROBABILITY = "purchase_probability"


def network(day: str) -> None:
    """Train and register the network where it isn't yet, score a date by its own job file, and set both side by side.

    Where Keras or its backend is missing, or the job file is, this is said and left out.
    """
    step(f"5  a second model on the same players: a neural network, registered as {NETWORK}@champion")
    try:
        from lakehouse.demo import network
    except ImportError as error:
        print(f"   left out: it takes Keras and JAX ({error}): `make setup` installs both, or pip install keras jax")
        return
    if not CONF.exists():
        print(f"   left out: its job file {CONF} is not here")
        return
    if version := train.registered(TRACKING, NETWORK):
        print(f"   it is registered already, v{version}")
    else:
        version = network.train(str(LAKE / "training/games"), TRACKING, NETWORK)
        print(f"   trained by {network.trainer()}, v{version}")
    step(f"6  its own job: lakehouse score {CONF} --date {day} --engine local")
    lakehouse("score", str(CONF), "--date", day, "--engine", "local")
    both = scores(f"{LAKE}/scores/games", day).join(
        scores(f"{LAKE}/scores/{NETWORK}", day), "player_id", right_suffix="_network", join_type="inner"
    )
    print(f"   {both.num_rows:,} players have a score of both models; {_apart(both, '_network')}")


def imported(day: str) -> None:
    """Write the first model as a classic pickle, look into it, import it, and hold its scores against the first's."""
    step(f"7  a classic pickle of logit_games, {PICKLE}: lakehouse model inspect {PICKLE}")
    if version := train.registered(TRACKING, IMPORTED):
        print(f"   it was imported already, as {IMPORTED} v{version}")
        return
    write_pickle(PICKLE)
    lakehouse("model", "inspect", str(PICKLE))
    words = ["--name", IMPORTED, "--features", FEATURES, "--method", "predict_proba", "--alias", "champion"]
    words += ["--trust", "pickle", "--tracking-uri", TRACKING]
    step(f"8  imported: lakehouse model import {PICKLE} {' '.join(words)}")
    lakehouse("model", "import", str(PICKLE), *words)
    known = scores(f"{LAKE}/scores/games", day)
    uri = f"model.uri=models:/{IMPORTED}@champion"
    again = preview(GAMES, date=day, engine="local", overrides=[uri], rows=10 * known.num_rows)
    both = known.join(
        pa.Table.from_pandas(again[["player_id", PROBABILITY]].dropna(), preserve_index=False),
        "player_id", right_suffix="_imported", join_type="inner",
    )  # fmt: skip
    print(f"   the job {GAMES} with it, publishing nothing: {both.num_rows:,} players; {_apart(both, '_imported')}")


def write_pickle(path: Path) -> None:
    """The champion of logit_games as `pickle` writes it, as it would lie in an old folder of models."""
    with train.at_mlflow(TRACKING):
        model = mlflow.sklearn.load_model("models:/logit_games@champion")
    path.write_bytes(pickle.dumps(model))


def scores(table: str, day: str | None) -> pa.Table:
    """Players and their probabilities in a scored table; `day`: of this date only.

    Raises LakehouseError where there is no such table.
    """
    snapshot = open_table(locate(table))
    if snapshot is None:
        raise LakehouseError(f"{table} is not there")
    files = [f for f in snapshot.files() if day is None or str(f.partition.get("score_date")) == day]
    return rows_of(snapshot, ["player_id", PROBABILITY], files)


def _apart(both: pa.Table, suffix: str) -> str:
    """How far two columns of probabilities are apart, in words; 1e-12 is what batches of other sizes may change."""
    one, other = (both[name].to_numpy().astype(np.float64) for name in (PROBABILITY, PROBABILITY + suffix))
    gap = np.abs(one - other)
    if gap.max() < 1e-12:
        return f"their probabilities are the {'same but for rounding' if gap.any() else 'very same'}"
    return f"their probabilities are {gap.mean():.4f} apart on average, {gap.max():.4f} at most"
