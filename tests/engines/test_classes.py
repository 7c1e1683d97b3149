"""Spark's classes as Java keeps them: taken where they fit, and never in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.engines import classes, runtime


@pytest.fixture
def java(tmp_path, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(tmp_path / "cache"))
    for name in ("SPARK_SUBMIT_OPTS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"):
        monkeypatch.delenv(name, raising=False)
    home = runtime.find_java()
    assert home is not None
    return home


def put(java: Path, content: bytes) -> Path:
    place, name = classes._names(java)
    place.mkdir(parents=True)
    file = place / f"{name}-{len(content)}.jsa"
    file.write_bytes(content)
    return file


def test_where_nothing_is_kept_java_is_told_nothing(java):
    assert classes.options(java) == []


def test_somebodys_own_options_of_sharing_are_left_alone(java, monkeypatch):
    file = put(java, b"")
    assert f"-XX:SharedArchiveFile={file}" in classes.options(java)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xshare:off")
    assert classes.options(java) == []


def test_a_file_that_was_cut_is_left_alone(java):
    file = put(java, b"whole")
    assert classes.kept(java) == file
    file.write_bytes(b"who")  # Java would crash on it
    assert classes.options(java) == []


def test_java_goes_on_without_a_file_that_does_not_fit_and_says_nothing(java):
    put(java, b"no classes" * 10_000)
    command = [java / "bin" / "java", *classes.options(java), "-cp", "nowhere", "-version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "version" in done.stderr


def test_a_jar_that_was_replaced_wants_another_file(java, tmp_path, monkeypatch):
    jar = tmp_path / "spark.jar"
    jar.write_bytes(b"one")
    monkeypatch.setattr(runtime, "pyspark_jars", lambda: tmp_path)
    place, name = classes._names(java)
    assert classes._names(java) == (place, name)
    os.utime(jar, (1, 1))
    assert classes._names(java)[0] == place
    assert classes._names(java)[1] != name


@pytest.mark.slow
@pytest.mark.long
def test_a_session_takes_most_of_its_classes_from_the_file(java, tmp_path):
    """Counted by Java itself: about 15,000 classes, of which all but those made on the way come from the file."""
    file = classes.make(java)
    assert file is not None
    assert file == classes.kept(java)
    assert classes.make(java) == file
    log = tmp_path / "loaded.txt"
    environment = {**os.environ, "SPARK_SUBMIT_OPTS": f"-Xlog:class+load:file={log}"}
    subprocess.run([sys.executable, "-m", "lakehouse.engines.spark.rehearsal"], env=environment, check=True)
    loaded = log.read_text().splitlines()
    shared = [line for line in loaded if "source: shared objects file" in line]
    assert len(shared) > 0.6 * len(loaded)
