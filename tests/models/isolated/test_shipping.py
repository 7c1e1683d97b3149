"""An environment goes to executors with its model, and is used where it was unpacked."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from lakehouse import models
from lakehouse.models.isolated import archives
from lakehouse.models.isolated.calling import Environment, IsolatedFolder
from lakehouse.storage import locate
from tests.models.isolated import warm

DIGEST = "d" * 64


@pytest.fixture
def folder(tmp_path: Path) -> IsolatedFolder:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    return IsolatedFolder(str(tmp_path / "model"), warm.environment(tmp_path / "cache"))


def unpacked(folder: IsolatedFolder, root: Path, **how: bool) -> models.Folders:
    """What an executor finds of a model."""
    models.pack({DIGEST: folder, "e" * 64: folder.path}, root / "packed.zip", **how)
    with zipfile.ZipFile(root / "packed.zip") as archive:
        archive.extractall(root / "there")
    return models.unpacked(str(root / "there"))


def test_the_packages_are_where_they_were_unpacked(folder, tmp_path):
    found = unpacked(folder, tmp_path)
    there = tmp_path / "there"
    own = Environment("here", str(there / "isolated" / "here"), folder.environment.python, folder.environment.minor)
    assert found == {DIGEST: IsolatedFolder(str(there / DIGEST), own), "e" * 64: str(there / ("e" * 64))}
    assert (there / "isolated" / "here" / "here.pth").is_file()


def test_a_python_that_is_elsewhere_on_that_machine_is_found(folder, tmp_path):
    other = Environment("here", folder.environment.packages, "/no/such/python", folder.environment.minor)
    found = unpacked(IsolatedFolder(folder.path, other), tmp_path)[DIGEST]
    assert isinstance(found, IsolatedFolder)
    assert found.environment.python == folder.environment.python


def test_on_the_same_machine_they_stay_where_they_are(folder, tmp_path):
    assert unpacked(folder, tmp_path, same_machine=True)[DIGEST] == IsolatedFolder(
        str(tmp_path / "there" / DIGEST), folder.environment
    )
    assert not (tmp_path / "there" / "isolated" / "here").exists()


def test_the_lake_keeps_an_environment_for_another_machine(folder, tmp_path, bucket):
    shared = locate(bucket)
    kept = Path(folder.environment.packages).parent
    (kept / "manifest.json").write_text("{}")
    assert not archives.take(shared, tmp_path / "other", "here", print)
    assert archives.keep(kept, shared, "here") == ""
    shutil.rmtree(kept)
    assert archives.take(shared, tmp_path / "other", "here", print)
    assert (tmp_path / "other" / "here" / "packages" / "here.pth").read_text() == f"{warm.HERE}\n{warm.TESTS}\n"


def test_a_lake_that_can_not_be_written_to_is_said(folder, tmp_path):
    (tmp_path / "file").write_text("")
    said = archives.keep(Path(folder.environment.packages).parent, locate(str(tmp_path / "file" / "x")), "here")
    assert said.startswith("the environment can't be kept as")
