"""Java and jars are found as promised, on machines made up in temporary folders."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.engines import quiet, runtime
from lakehouse.errors import ConfigError, Unavailable

MODULES = "java.base jdk.incubator.vector"
# Stands for Ivy: writes the jars named in $JARS where `-retrieve` points, or fails as Ivy does.
IVY = """#!/bin/sh
echo run >> "$0.runs"
while [ "$1" != -retrieve ]; do shift; done
[ -n "$JARS" ] || { echo ':: UNRESOLVED DEPENDENCIES ::'; echo 'io.delta#nowhere;1: not found'; exit 1; }
mkdir -p "${2%/*}"
for jar in $JARS; do : > "${2%/*}/$jar"; done
"""


@pytest.fixture
def java(tmp_path: Path) -> Callable[..., Path]:
    """Makes a Java home that says it is of the version given."""

    def make(name: str, java_version: str, *, modules: str = MODULES, release: bool = True) -> Path:
        home = tmp_path / name
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{java_version}\"' >&2\n")
        (home / "bin" / "java").chmod(0o755)
        if release:
            (home / "release").write_text(f'JAVA_VERSION="{java_version}"\nMODULES="{modules}"\n')
        return home

    return make


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without Java, apt-get or anything in the cache."""
    (tmp_path / "empty").mkdir()
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "JAVA_FOLDERS", ())
    return monkeypatch


def test_cache_dir_prefers_its_own_variable_then_xdg_then_home(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("LAKEHOUSE_CACHE", "/a")
    bare.setenv("XDG_CACHE_HOME", "/b")
    bare.setenv("HOME", "/c")
    assert runtime.cache_dir() == Path("/a")
    bare.delenv("LAKEHOUSE_CACHE")
    assert runtime.cache_dir() == Path("/b/lakehouse")
    bare.delenv("XDG_CACHE_HOME")
    assert runtime.cache_dir() == Path("/c/.cache/lakehouse")


def test_java_home_beats_path(bare: pytest.MonkeyPatch, java: Callable[..., Path]) -> None:
    named, on_path = java("named", "21.0.2"), java("on-path", "17.0.15")
    bare.setenv("PATH", f"{on_path}/bin")
    assert runtime.find_java() == on_path
    bare.setenv("JAVA_HOME", str(named))
    assert runtime.find_java() == named


def test_path_beats_the_usual_folders_and_these_the_cache(
    bare: pytest.MonkeyPatch, java: Callable[..., Path], tmp_path: Path
) -> None:
    cached = java("cache/java/some-package/usr/lib/jvm/java-17", "17.0.15")
    assert runtime.find_java() == cached
    usual = java("jvm/java-17/Contents/Home", "17.0.15")
    bare.setattr(runtime, "JAVA_FOLDERS", (f"{tmp_path}/jvm/*/Contents/Home",))
    assert runtime.find_java() == usual
    bare.setenv("PATH", str(java("on-path", "17.0.15") / "bin"))
    assert runtime.find_java() == tmp_path / "on-path"


@pytest.mark.parametrize("java_version", ["1.8.0_412", "11.0.2", "22", "25.0.3"])
@pytest.mark.parametrize("release", [True, False])
def test_another_version_is_passed_over(
    bare: pytest.MonkeyPatch, java: Callable[..., Path], java_version: str, release: bool
) -> None:
    bare.setenv("JAVA_HOME", str(java("wrong", java_version, release=release)))
    assert runtime.find_java() is None
    right = java("right", "17.0.15", release=False)
    bare.setenv("PATH", f"{right}/bin:/bin")
    assert runtime.find_java() == right


def test_java_without_the_vector_module_is_passed_over(bare: pytest.MonkeyPatch, java: Callable[..., Path]) -> None:
    bare.setenv("JAVA_HOME", str(java("small", "17.0.15", modules="java.base")))
    assert runtime.find_java() is None


def test_without_java_one_line_says_what_to_do(
    bare: pytest.MonkeyPatch, java: Callable[..., Path], tmp_path: Path
) -> None:
    bare.setenv("JAVA_HOME", str(java("new", "25.0.3")))
    with pytest.raises(ConfigError) as refused:
        runtime.ensure_java()
    assert str(refused.value) == (
        "Spark needs Java 17 or 21 with the module jdk.incubator.vector; none was found in JAVA_HOME, PATH "
        f"and the usual folders (seen: 25 in {tmp_path}/new): install one (Debian: openjdk-17-jre-headless; "
        "macOS: brew install openjdk@17) or set JAVA_HOME"
    )


def test_links_into_etc_are_mended_and_certificates_supplied(tmp_path: Path) -> None:
    root, home = tmp_path / "root", tmp_path / "root/usr/lib/jvm/java-17"
    (home / "lib/security").mkdir(parents=True)
    (root / "etc/java-17").mkdir(parents=True)
    (root / "etc/java-17/net.properties").write_text("mended")
    (home / "net.properties").symlink_to("/etc/java-17/net.properties")
    (home / "lib/security/cacerts").symlink_to("/etc/nowhere/cacerts")
    runtime._mend_links(root, home)
    root.rename(tmp_path / "moved")
    moved = tmp_path / "moved/usr/lib/jvm/java-17"
    assert (moved / "net.properties").read_text() == "mended"
    assert (moved / "lib/security/cacerts").read_bytes().startswith(bytes.fromhex("feedfeed00000002"))


@pytest.mark.parametrize(
    ("spark", "delta", "coordinate"),
    [
        ("4.2.0", "4.4.0", "io.delta:delta-spark_4.2_2.13:4.4.0"),
        ("4.0.1", "4.0.0", "io.delta:delta-spark_2.13:4.0.0"),
    ],
)
def test_delta_coordinate(monkeypatch: pytest.MonkeyPatch, spark: str, delta: str, coordinate: str) -> None:
    monkeypatch.setattr(runtime, "version", {"pyspark": spark, "delta-spark": delta}.__getitem__)
    assert runtime.delta_coordinate() == coordinate


@pytest.fixture
def ivy(bare: pytest.MonkeyPatch, java: Callable[..., Path]) -> Path:
    """A Java whose Ivy retrieves the jars named in $JARS; the file tells how often it ran."""
    program = java("ivy", "17.0.15") / "bin" / "java"
    program.write_text(IVY)
    bare.setenv("JAVA_HOME", str(program.parent.parent))
    bare.setenv("PATH", "/usr/bin:/bin")
    return Path(f"{program}.runs")


def test_jars_that_pyspark_ships_are_dropped(ivy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "delta-spark_4.2_2.13-4.4.0.jar delta-storage-4.4.0.jar"
    monkeypatch.setenv("JARS", f"{names} hadoop-client-api-3.4.2.jar log4j-1.2-api-2.0.jar slf4j-api-1.7.36.jar")
    assert [jar.name for jar in runtime.jars()] == names.split()


def test_the_second_call_starts_nothing(ivy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JARS", "delta-storage-4.4.0.jar")
    first = runtime.jars()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started a process"))
    monkeypatch.delenv("JAVA_HOME")
    assert runtime.jars() == first
    assert ivy.read_text().split() == ["run"]


def test_other_coordinates_have_a_folder_of_their_own(ivy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JARS", "some-1.0.jar")
    one, other = runtime.jars(["g:some:1.0"]), runtime.jars(["g:some:1.0", "g:more:1.0"])
    assert one[0].parent != other[0].parent
    assert runtime.jars(["g:more:1.0", "g:some:1.0"]) == other


def test_failed_resolution_tells_what_ivy_said_and_leaves_nothing(ivy: Path) -> None:
    with pytest.raises(Unavailable, match=r"no jars for io\.delta:nowhere:1: .*nowhere;1: not found$"):
        runtime.jars(["io.delta:nowhere:1"])
    assert os.listdir(runtime.cache_dir() / "jars") == []


def test_a_faster_process_wins(ivy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JARS", "delta-storage-4.4.0.jar")
    wanted = [runtime.delta_coordinate()]
    folder = runtime._jar_folder(wanted)
    folder.mkdir(parents=True)
    (folder / "theirs-1.0.jar").touch()
    runtime._resolve(wanted, folder)
    assert [jar.name for jar in runtime.jars()] == ["theirs-1.0.jar"]
    assert os.listdir(folder.parent) == [folder.name]


def test_a_malformed_coordinate_is_refused(ivy: Path) -> None:
    with pytest.raises(ConfigError, match="'delta-spark' is no Maven coordinate"):
        runtime.jars(["delta-spark"])


def test_this_machine_is_ready_for_spark() -> None:
    java = runtime.ensure_java()
    told = subprocess.run([java / "bin/java", "--list-modules"], capture_output=True, text=True, check=True)
    assert runtime.VECTOR_MODULE in told.stdout
    assert any(jar.name.startswith("delta-spark_") for jar in runtime.jars())


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: Using incubator modules: jdk.incubator.vector",
        "Using Spark's default log4j profile: org/apache/spark/log4j2-defaults.properties",
        'Setting default log level to "WARN".',
        'Setting Spark log level to "ERROR".',
        "To adjust logging level use sc.setLogLevel(newLevel). For SparkR, use setLogLevel(newLevel).",
        "26/11/27 21:34:23 INFO SparkContext: Running Spark version 4.2.0",
        "26/11/27 21:34:31 WARN NativeCodeLoader: Unable to load native-hadoop library for your platform...",
    ],
)
def test_what_spark_says_of_its_start_is_noise(line):
    assert quiet.is_noise(line.encode())


@pytest.mark.parametrize(
    "line",
    [
        "26/11/27 21:34:23 ERROR SparkContext: Error initializing SparkContext.",
        "reading lake/features v0 with buyers v1; files carrier: Arrow reads this table's files as they are",
        "warning: the job's baseline is gone",
        "WARNING: disk is full",
    ],
)
def test_what_went_wrong_is_not(line):
    assert not quiet.is_noise(line.encode())


CHILD = r"""
import os, time
for part in (b"WARNING: Using incubator mod", b"ules: x\nto be seen\n30 %", b"\rlast"):
    os.write(2, part)
    time.sleep(0.2)
"""
SAYS = """
import subprocess, sys, time
from lakehouse.engines import quiet
with quiet.start():
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
    print("meanwhile", file=sys.stderr)
child.wait()
time.sleep(0.3)
print("after", file=sys.stderr)
"""


@pytest.mark.parametrize(("debug", "first"), [("", b""), ("1", b"WARNING: Using incubator modules: x\n")])
def test_a_process_that_is_started_quietly_writes_the_rest_at_once(debug, first):
    env = {**os.environ, "LAKEHOUSE_DEBUG": debug}
    done = subprocess.run([sys.executable, "-c", SAYS, CHILD], env=env, capture_output=True, timeout=60, check=True)
    assert done.stderr == b"meanwhile\n" + first + b"to be seen\n30 %\rlastafter\n"
