"""The notebooks run on a small lake of the demo's, show figures, and are committed without what they showed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lakehouse.config import load_job
from lakehouse.demo.data import DATES, write_games
from lakehouse.demo.train import train
from tests.conftest import score, write

PROJECT = Path(__file__).parents[2]
NOTEBOOKS = sorted(PROJECT.glob("notebooks/*.ipynb"))
SCORES = PROJECT / "notebooks" / "explore_scores.ipynb"
ONE, OTHER = DATES[-1], DATES[-2]


def score_date(date: Any) -> str:
    """Score a date of the games in the working directory, by the project's own job file."""
    return score(load_job("conf/games.yaml", date=str(date), environ=os.environ)).status


@pytest.fixture(scope="module")
def one_date(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder: 300 players a date, a model, and the scores of the newest date."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "conf", root / "conf")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_games(root / "lake", rows_per_date=300, training_rows=500, seed=1)
        tracking = (
            f"sqlite:///{root}/lake/mlflow.db"  # MLflow keeps one store for a relative path, wherever it led first
        )
        shared = root / "conf" / "lakehouse.yaml"
        shared.write_text(shared.read_text().replace("sqlite:///lake/mlflow.db", tracking))
        train("lake/training/games", tracking)
        assert score_date(ONE) == "published"
    return root


@pytest.fixture
def two_dates(one_date: Path, workspace: Path) -> Path:
    """The same with the scores of the date before, one of whose players has no id and is set aside."""
    root = workspace / "project"
    shutil.copytree(one_date, root)
    os.chdir(root)
    players = pa.table(DeltaTable("lake/features/games").to_pyarrow_table())
    ids = [
        None if (id_, date) == (7, OTHER) else id_
        for id_, date in zip(*(players[c].to_pylist() for c in ("player_id", "event_date")), strict=True)
    ]
    players = players.set_column(0, "player_id", pa.array(ids, pa.int64()))
    write("lake/features/games", players, ["event_date"], mode="overwrite", schema_mode="overwrite")
    assert score_date(OTHER) == "published"
    return root


@pytest.fixture(autouse=True)
def own_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings and no history of whoever runs the tests."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)


def execute(path: Path, folder: Path) -> Any:
    """The notebook as it is after all its cells ran in a folder. Raises CellExecutionError at the first that fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def figures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def shown(notebook: Any) -> str:
    """All text that the cells printed or showed as tables."""
    parts = [o.get("text", "") + o.get("data", {}).get("text/html", "") for o in outputs(notebook)]
    return "\n".join(parts + [o.get("data", {}).get("text/plain", "") for o in outputs(notebook)])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_as_they_were_written(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)
    assert notebook.metadata.kernelspec.name == "python3"


def test_scores_of_one_date(one_date: Path) -> None:
    notebook = execute(SCORES, one_date)
    assert figures(notebook) == 2
    text = shown(notebook)
    assert f"Only {ONE} is scored" in text
    assert "every row that was read has a score" in text
    assert not [o for o in outputs(notebook) if o.get("name") == "stderr"]


@pytest.mark.long
def test_scores_of_two_dates_from_the_notebooks_folder(two_dates: Path) -> None:
    (two_dates / "notebooks").mkdir()
    notebook = execute(SCORES, two_dates / "notebooks")
    assert figures(notebook) == 3
    text = shown(notebook)
    assert "290 players have both dates" in text
    assert f"9 are on {OTHER} only, 1 on {ONE} only" in text
    assert "key_not_null" in text
    assert not [o for o in outputs(notebook) if o.get("name") == "stderr"]


def test_without_scores_the_notebook_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        CellExecutionError, match="no lake/scores/games yet: run `lakehouse demo` in the project's folder"
    ):
        execute(SCORES, tmp_path)
