"""What executors get of this package is enough for a worker, and has nothing that only the driver calls."""

import io
import json
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakehouse.engines import scratch
from lakehouse.engines.spark import shipping

PROBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import lakehouse.engines.probing, lakehouse.engines.spark.tasks, lakehouse.sinks.snowflake.upload
import lakehouse.sources.delta, lakehouse.sources.parquet, lakehouse.sources.snowflake
print(json.dumps(sorted({m.__file__ for n, m in sys.modules.items() if n.partition(".")[0] == "lakehouse"})))
"""


def test_a_worker_runs_from_the_package_as_it_is_shipped(tmp_path):
    packed = shipping.pack_package()
    found = subprocess.run([sys.executable, "-c", PROBE, str(packed)], capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    loaded = json.loads(found.stdout)
    assert len(loaded) > 50
    assert [file for file in loaded if not file.startswith(str(packed))] == []
    assert [file for file in loaded if not file.endswith(".pyc")] == []  # no worker compiles it again


def test_a_worker_of_another_python_compiles_the_package_itself(tmp_path):
    other = tmp_path / "lakehouse.zip"
    with zipfile.ZipFile(shipping.pack_package()) as packed, zipfile.ZipFile(other, "w") as archive:
        for name in packed.namelist():
            content = packed.read(name)
            archive.writestr(name, b"0000" + content[4:] if name.endswith(".pyc") else content)
    found = subprocess.run([sys.executable, "-c", PROBE, str(other)], capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert {Path(file).suffix for file in json.loads(found.stdout)} == {".py"}


def test_what_only_the_driver_calls_stays_there():
    with zipfile.ZipFile(shipping.pack_package()) as archive:
        names = archive.namelist()
    assert "lakehouse/engines/spark/tasks.py" in names
    left = ("lakehouse/cli/", "lakehouse/demo/", "lakehouse/views/", "lakehouse/engines/runtime.py")
    assert [name for name in names if name.startswith(left)] == []


def test_runs_in_threads_are_given_one_whole_package(monkeypatch, tmp_path):
    monkeypatch.setattr(shipping, "_packed", {})
    monkeypatch.setattr(shipping.scratch, "process_folder", lambda: tmp_path)
    begin = threading.Barrier(4)

    def pack(_):
        begin.wait()
        found = shipping.pack_package()
        with zipfile.ZipFile(found) as archive:
            return found, archive.testzip()

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(pack, range(4)))) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_compiled_otherwise_has_another_name(monkeypatch, tmp_path):
    """Spark takes no file of one name with other bytes, as compiling the same module twice may give."""
    monkeypatch.setattr(shipping.scratch, "process_folder", lambda: tmp_path)
    names = set()
    for code in (b"1", b"2"):
        monkeypatch.setattr(shipping, "_packed", {})
        monkeypatch.setattr(shipping, "_compiled", lambda *_, code=code: code)
        names.add(shipping.pack_package())
    assert len(names) == 2


def test_a_run_that_ends_before_its_first_task_leaves_the_session_as_it_was(spark):
    """Whatever was added to a session is fetched, or compared with what is there, by each of its later jobs."""
    with pytest.raises(KeyboardInterrupt), shipping.ship(spark, "a plan"):
        raise KeyboardInterrupt
    assert spark.range(3).count() == 3


def test_what_was_shipped_is_small_and_there_once_a_run_is_over(spark):
    with shipping.ship(spark, "a plan" * 1000) as name:
        assert spark.range(3).count() == 3
    left = scratch.process_folder() / name
    assert left.read_bytes() == b""
    with zipfile.ZipFile(io.BytesIO(shipping._EMPTY_ZIP)) as archive:
        assert archive.namelist() == []


def test_the_drivers_own_path_does_not_lead_to_what_is_shipped(spark):
    """Spark puts that first; processes that the driver starts take its path, and need what isn't shipped, too."""
    shipping.ship_package(spark)
    name = shipping.pack_package().name
    assert [entry for entry in sys.path if name in entry] == []
    paths = spark.sparkContext.parallelize([0]).map(lambda _: sys.path).collect()
    assert [sum(name in entry for entry in path) for path in paths] == [1]
