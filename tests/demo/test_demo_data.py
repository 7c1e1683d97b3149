"""The demo's tables, its training script, and the script it is compared with."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import skops.io
from deltalake import DeltaTable

from lakehouse.demo import baseline
from lakehouse.demo.data import (
    DATES,
    EVENT_DATE,
    FEATURES_SCHEMA,
    FLAGS,
    KEY,
    LABEL,
    csv_to_tables,
    label_classes,
    make_games,
    make_games_training,
    write_games,
)
from lakehouse.demo.train import TRUSTED_TYPES, train
from lakehouse.errors import ConfigError

TODAY = dt.date(2026, 1, 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small lake: two dates of 2,000 rows, a late one of 1,940, and 2,000 training rows."""
    root = tmp_path_factory.mktemp("lake")
    write_games(root, rows_per_date=2_000, training_rows=2_000, seed=1)
    return root


@pytest.fixture(scope="module")
def tracking_uri(root: Path) -> str:
    uri = f"sqlite:///{root}/mlflow.db"
    assert train(str(root / "training" / "games"), uri) == 1
    return uri


def model_folder(tracking_uri: str, uri: str, to: Path) -> Path:
    """Download a registered model's files, leaving MLflow's process-wide settings alone."""
    client = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri)
    name, alias = uri.removeprefix("models:/").split("@")
    source = client.get_model_version_by_alias(name, alias).source
    assert source is not None
    location = client.get_logged_model(source.removeprefix("models:/")).artifact_location
    return Path(mlflow.artifacts.download_artifacts(location, dst_path=str(to / "model")))


def test_games_are_the_same_for_the_same_seed() -> None:
    first, second = (list(make_games(DATES, 500, seed=7)) for _ in range(2))
    assert first == second
    assert list(make_games(DATES, 500, seed=8)) != first


def test_games_have_the_features_schema_and_a_late_newest_date() -> None:
    tables = list(make_games(DATES, 1_000, seed=7))
    assert [t.schema for t in tables] == [FEATURES_SCHEMA] * 3
    assert [len(t) for t in tables] == [1_000, 1_000, 970]
    assert [t[EVENT_DATE].unique().to_pylist() for t in tables] == [[date] for date in DATES]
    assert all(pc.count_distinct(t[KEY]).as_py() == len(t) for t in tables)


def test_flags_are_zero_one_or_now_and_then_missing() -> None:
    table = next(make_games(DATES, 20_000, seed=7))
    assert {v for flag in FLAGS for v in pc.drop_null(table[flag]).unique().to_pylist()} == {0.0, 1.0}
    missing = {name: table[name].null_count for name in table.column_names if table[name].null_count}
    assert set(missing) == {"country", "G3", "G7", "G10"}
    assert max(missing.values()) < 0.03 * len(table)


def test_flags_hang_together_through_the_players_taste() -> None:
    owned = np.column_stack([f.to_numpy() for f in next(make_games(DATES, 20_000, seed=7)).select(FLAGS).columns])
    between = np.corrcoef(owned[~np.isnan(owned).any(axis=1)], rowvar=False)[np.triu_indices(10, k=1)]
    assert np.abs(between).max() > 0.15


def test_only_the_training_table_has_the_label() -> None:
    assert LABEL not in FEATURES_SCHEMA.names
    bought = pc.mean(make_games_training(20_000, seed=7)[LABEL]).as_py()
    assert 0.05 < bought < 0.3


def test_written_table_is_partitioned_commented_and_in_several_files_a_date(tmp_path: Path) -> None:
    write_games(tmp_path, training_rows=10)
    table = DeltaTable(tmp_path / "features" / "games")
    files = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    rows: dict[dt.date, list[int]] = {date: [] for date in DATES}
    for file in files:
        rows[file[f"partition.{EVENT_DATE}"]].append(file["num_records"])
    assert [sum(n) for n in rows.values()] == [100_000, 100_000, 97_000]
    assert all(len(n) >= 2 for n in rows.values())
    assert table.metadata().partition_columns == [EVENT_DATE]
    assert all(field.metadata.get("comment") for field in table.schema().fields)


def test_writing_again_replaces(tmp_path: Path) -> None:
    for _ in range(2):
        write_games(tmp_path, rows_per_date=100, training_rows=10)
    table = DeltaTable(tmp_path / "features" / "games")
    assert (table.version(), table.to_pyarrow_table().num_rows) == (1, 297)


def test_trained_model_gives_probabilities_and_loads_without_pickle(
    tracking_uri: str, root: Path, tmp_path: Path
) -> None:
    folder = model_folder(tracking_uri, "models:/logit_games@champion", tmp_path)
    conf = mlflow.models.Model.load(folder).flavors
    assert conf["sklearn"]["serialization_format"] == "skops"
    assert conf["python_function"]["predict_fn"] == "predict_proba"
    assert skops.io.get_untrusted_types(file=folder / "model.skops") == TRUSTED_TYPES

    native = skops.io.load(folder / "model.skops", trusted=TRUSTED_TYPES)
    x = DeltaTable(root / "training" / "games").to_pyarrow_table().select(FLAGS).to_pandas()
    assert set(native.predict(x)) <= {0, 1}
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(folder)).predict(x), native.predict_proba(x))
    np.testing.assert_array_equal(mlflow.sklearn.load_model(str(folder)).predict(x), native.predict(x))


def test_training_again_registers_the_next_version_and_moves_the_alias(tmp_path: Path) -> None:
    write_games(tmp_path, rows_per_date=10, training_rows=500)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert [train(str(tmp_path / "training" / "games"), uri) for _ in range(2)] == [1, 2]
    champion = mlflow.MlflowClient(uri, registry_uri=uri).get_model_version_by_alias("logit_games", "champion")
    assert int(champion.version) == 2
    assert (tmp_path / "mlartifacts").is_dir()


@pytest.mark.long
def test_training_is_quiet_and_leaves_mlflow_as_it_was(tmp_path: Path) -> None:
    """In a process of its own: MLflow's messages depend on what was imported before."""
    write_games(tmp_path, rows_per_date=10, training_rows=500)
    code = (
        "import os, sys; from lakehouse.demo.train import train; train(sys.argv[1], sys.argv[2]);"
        "assert 'MLFLOW_TRACKING_URI' not in os.environ and 'MLFLOW_REGISTRY_URI' not in os.environ"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    command = [
        sys.executable,
        "-c",
        code,
        str(tmp_path / "training" / "games"),
        f"sqlite:///{tmp_path}/mlflow.db",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_missing_training_column_is_named(root: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'purchas'; did you mean 'purchase'"):
        train(str(root / "training" / "games"), "sqlite:///unused.db", label="purchas")


CSV = "Shop ID,plan,paid,age,nothing,event_date\n" + "".join(
    f"s{i},{'abc'[i % 3] if i % 7 else ''},{'true' if i % 2 else 'false'},{i if i % 5 else ''},,2020-01-01\n"
    for i in range(60)
)


def test_csv_becomes_a_features_and_a_training_table(tmp_path: Path) -> None:
    (tmp_path / "My shops.csv").write_text(CSV)
    tables = csv_to_tables(tmp_path / "My shops.csv", "plan", tmp_path, TODAY)
    assert (tables.key, tables.features, tables.classes) == ("Shop_ID", ["paid", "age"], ["a", "b", "c"])

    features = DeltaTable(tables.features_uri).to_pyarrow_table().sort_by("age")
    assert {f.name: str(f.type) for f in features.schema} == {
        "Shop_ID": "string",
        "paid": "double",
        "age": "double",
        "event_date_2": "date32[day]",
        "event_date": "date32[day]",
    }
    assert features.slice(0, 1).to_pylist() == [
        {"Shop_ID": "s1", "paid": 1.0, "age": 1.0, "event_date_2": dt.date(2020, 1, 1), "event_date": TODAY}
    ]
    assert len(features) == 60
    assert DeltaTable(tables.training_uri).to_pyarrow_table()["plan"].null_count == 0


def test_csv_without_a_key_gets_row_id(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,0\n2,1\n3,1\n")
    tables = csv_to_tables(tmp_path / "a.csv", "y", tmp_path, TODAY)
    assert tables.key == "row_id"
    assert DeltaTable(tables.features_uri).to_pyarrow_table()["row_id"].to_pylist() == [1, 2, 3]


@pytest.mark.quick("plan-output0")
@pytest.mark.parametrize(("label", "output"), [("plan", (60, 3)), ("paid", (60, 2)), ("age", (60,))])
def test_csv_model_takes_text_and_missing_values(label: str, output: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "shops.csv").write_text(CSV)
    tables = csv_to_tables(tmp_path / "shops.csv", label, tmp_path, TODAY)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    train(tables.training_uri, uri, "shops", features=tables.features, label=tables.label)
    folder = model_folder(uri, "models:/shops@champion", tmp_path)
    assert set(skops.io.get_untrusted_types(file=folder / "model.skops")) <= set(TRUSTED_TYPES)
    x = DeltaTable(tables.features_uri).to_pyarrow_table().select(tables.features).to_pandas()
    assert mlflow.pyfunc.load_model(str(folder)).predict(x).shape == output


def test_csv_label_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,label\n1,0\n")
    with pytest.raises(ConfigError, match="no column 'lable' to use as the label; did you mean 'label'"):
        csv_to_tables(tmp_path / "a.csv", "lable", tmp_path, TODAY)


def test_label_is_a_class_or_a_quantity() -> None:
    def classes(values: list[Any]) -> object:
        return label_classes(pa.table({"label": values})["label"])

    assert classes([1, 0, None, 1]) == [0, 1]
    assert classes(["no", "yes"]) == ["no", "yes"]
    assert classes([0.5, 1.0]) is None
    assert classes(list(range(21))) is None
    with pytest.raises(ConfigError, match="21 different values"):
        classes([f"v{i}" for i in range(21)])


@pytest.mark.long
def test_baseline_scores_the_late_date(spark: Any, tracking_uri: str, root: Path, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    features, out = str(root / "features" / "games"), str(tmp_path / "out")
    assert set(baseline.score(spark, features, "models:/logit_games/1", "2026-01-02", out)) == {"udf", "job"}

    folder = model_folder(tracking_uri, "models:/logit_games@champion", tmp_path)
    native = skops.io.load(folder / "model.skops", trusted=TRUSTED_TYPES)
    games = DeltaTable(root / "features" / "games")
    late = games.to_pyarrow_table(filters=[(EVENT_DATE, "=", TODAY)]).sort_by(KEY)
    scored = DeltaTable(tmp_path / "out").to_pyarrow_table().sort_by(KEY)
    assert scored[KEY].to_pylist() == late[KEY].to_pylist()
    expected = native.predict_proba(late.select(FLAGS).to_pandas())[:, 1]
    np.testing.assert_allclose(scored["purchase_probability"].to_numpy(), expected, rtol=1e-12)
