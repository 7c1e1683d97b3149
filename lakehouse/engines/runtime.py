"""What Spark needs from the machine: a Java it can start on, and the jars that pyspark doesn't ship."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from lakehouse.errors import ConfigError, LakehouseError, Unavailable

if TYPE_CHECKING:
    from lakehouse.storage import Location

JAVA_MAJORS = (17, 21)  # Spark 4 needs 17; 4.2 doesn't support 22 and later
VECTOR_MODULE = "jdk.incubator.vector"  # Spark 4.2's launcher adds it; a Java without it does not start
SCALA = "2.13"
JAVA_FOLDERS = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "~/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "~/.sdkman/candidates/java/*",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/home/linuxbrew/.linuxbrew/opt/openjdk*/libexec",
)


def cache_dir() -> Path:
    """Folder of what is fetched once: $LAKEHOUSE_CACHE, $XDG_CACHE_HOME/lakehouse or ~/.cache/lakehouse."""
    if own := os.environ.get("LAKEHOUSE_CACHE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser().absolute() / "lakehouse"


def find_java() -> Path | None:
    """Home of a Java that Spark starts on, sought in JAVA_HOME, PATH, the usual folders and the cache."""
    return next((home for home in _java_homes() if _java_major(home) in JAVA_MAJORS), None)


def ensure_java() -> Path:
    """Home of a usable Java, unpacked from the distribution's own package into the cache where there is none.

    Raises ConfigError when there is none and none could be unpacked.
    """
    if home := find_java():
        return home
    unpacked, tried = _unpack_java() if shutil.which("apt-get") and shutil.which("dpkg") else (None, "")
    if unpacked:
        return unpacked
    seen = [f"{major} in {home}" for home in _java_homes() if (major := _java_major(home))]
    raise ConfigError(
        f"Spark needs Java {' or '.join(map(str, JAVA_MAJORS))} with the module {VECTOR_MODULE}; none was "
        "found in JAVA_HOME, PATH and the usual folders "
        f"(seen: {', '.join(dict.fromkeys(seen)) or 'no Java at all'}{tried}): "
        "install one (Debian: openjdk-17-jre-headless; macOS: brew install openjdk@17) or set JAVA_HOME"
    )


def delta_coordinate() -> str:
    """Maven coordinate of the Delta jar for the installed pyspark and delta-spark."""
    delta = version("delta-spark")
    # From 4.1 on the artifact's name carries the Spark version it was built for.
    built_for = ".".join(version("pyspark").split(".")[:2]) + "_" if _numbers(delta) >= (4, 1) else ""
    return f"io.delta:delta-spark_{built_for}{SCALA}:{delta}"


def storage_coordinate(storage: type[Location]) -> str:
    """Maven coordinate of a storage's file system, for the Hadoop in the installed pyspark."""
    ships = next(pyspark_jars().glob("hadoop-client-api-*.jar"))
    return storage.hadoop_jars.format(hadoop=ships.stem.removeprefix("hadoop-client-api-"))


def storage_jars(storages: Iterable[type[Location]]) -> list[Path]:
    """The jars of storages' file systems, which are resolved one by one, so that each is fetched once."""
    return [jar for wanted in sorted(map(storage_coordinate, storages)) for jar in jars([wanted])]


def jars(coordinates: Sequence[str] = ()) -> list[Path]:
    """Jars of the Maven coordinates (by default Delta's) and what they need, less what pyspark ships itself.

    Resolved once, with the Ivy that pyspark ships; later calls only list a folder. Raises Unavailable when
    a coordinate can't be resolved, ConfigError when there is no Java.
    """
    wanted = sorted(coordinates or [delta_coordinate()])
    folder = _jar_folder(wanted)
    if not folder.is_dir():
        _resolve(wanted, folder)
    return sorted(folder.glob("*.jar"))


def has_jars(storages: Iterable[type[Location]]) -> bool:
    """Whether Delta's jars, and those of these storages' file systems, are here already."""
    wanted = [delta_coordinate(), *map(storage_coordinate, storages)]
    return all(_jar_folder([coordinate]).is_dir() for coordinate in wanted)


def prepare() -> None:
    """Make the machine ready for Spark and say in three lines what was done."""
    from lakehouse.engines import classes

    java = ensure_java()
    print(f"Java {_java_major(java)}: {java}")
    found = jars()
    print(f"Spark jars: {len(found)} in {found[0].parent}")
    print(f"Spark's classes, loaded once: {classes.make(java) or 'not kept by this Java, sessions start slower'}")


def _java_homes() -> Iterator[Path]:
    """Folders that look like a Java home, the preferred first."""
    if named := os.environ.get("JAVA_HOME"):
        yield Path(named)
    if on_path := shutil.which("java"):
        home = Path(on_path).resolve().parent.parent
        if not (home / "release").is_file():  # a shim or a stub: ask where the real one is
            settings = _output([on_path, "-XshowSettings:properties", "-version"])
            home = Path(told[1]) if (told := re.search(r"java\.home = (.+)", settings)) else home
        yield home
    for pattern in (*JAVA_FOLDERS, f"{cache_dir()}/java/*/usr/lib/jvm/*"):
        anchor, _, below = os.path.expanduser(pattern).partition("*")
        parent, start = os.path.split(anchor)
        yield from sorted(Path(parent).glob(f"{start}*{below}"))


def _java_major(home: Path) -> int | None:
    """Major version of a Java home; None where no Java starts or it lacks the vector module."""
    java = home / "bin" / "java"
    if not os.access(java, os.X_OK):
        return None
    release = home / "release"
    told = release.read_text(encoding="utf-8", errors="replace") if release.is_file() else ""
    modules = re.search(r'^MODULES="(.*)"', told, re.MULTILINE)
    if modules and VECTOR_MODULE not in modules[1].split():
        return None
    number = re.search(r'^JAVA_VERSION="(\d+)', told, re.MULTILINE)
    number = number or re.search(r'version "(\d+)', _output([str(java), "-version"]))
    return int(number[1]) if number else None


def _unpack_java() -> tuple[Path | None, str]:
    """Unpack the distribution's Java below the cache, without root; its home, or None and why."""
    base = cache_dir() / "java"
    base.mkdir(parents=True, exist_ok=True)
    tried = ""
    for package in (f"openjdk-{major}-jre-headless" for major in JAVA_MAJORS):
        with _scratch(base) as scratch:
            root = scratch / "root"
            said = _output(["apt-get", "download", package], cwd=scratch)
            for archive in scratch.glob("*.deb"):
                said = _output(["dpkg", "-x", str(archive), str(root)])
            for java in root.glob("usr/lib/jvm/*/bin/java"):
                home = java.parent.parent
                _mend_links(root, home)
                modules = _output([str(java), "--list-modules"])
                if re.search(r'version "\d', _output([str(java), "-version"])) and VECTOR_MODULE in modules:
                    _move(root, base / package)
                    return base / package / home.relative_to(root), ""
                said = modules
        tried += f"; apt-get download {package}: {_tail(said, 1) or 'no such package'}"
    return None, tried


def _mend_links(root: Path, home: Path) -> None:
    """Point links into /etc at the unpacked /etc, and give Java the certificates that this Python trusts."""
    for folder, folders, files in os.walk(home):
        for link in (Path(folder, name) for name in folders + files):
            target = os.readlink(link) if link.is_symlink() else ""
            if target.startswith("/etc/") and os.path.lexists(f"{root}{target}"):
                link.unlink()
                link.symlink_to(os.path.relpath(f"{root}{target}", folder))
    trusted = home / "lib" / "security" / "cacerts"
    if not trusted.exists():  # installing the package would have made it, from the system's certificates
        trusted.unlink(missing_ok=True)
        trusted.write_bytes(_trust_store(ssl.create_default_context().get_ca_certs(binary_form=True)))


def _trust_store(certificates: Sequence[bytes]) -> bytes:
    """A Java key store (format JKS 2, as in sun.security.provider.JavaKeyStore) of DER certificates."""
    body = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
    for number, certificate in enumerate(certificates):
        alias = str(number).encode()
        body += struct.pack(">IH", 2, len(alias)) + alias + struct.pack(">QH", 0, 5) + b"X.509"
        body += struct.pack(">I", len(certificate)) + certificate
    secret = "changeit".encode("utf-16-be") + b"Mighty Aphrodite"
    return body + hashlib.sha1(secret + body).digest()


def _resolve(coordinates: Sequence[str], folder: Path) -> None:
    """Fill `folder` with the coordinates' jars, all at once or not at all."""
    java = ensure_java() / "bin" / "java"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(folder.parent) as scratch:
        fetched, kept, module = scratch / "fetched", scratch / "kept", scratch / "ivy.xml"
        module.write_text(_ivy_module(coordinates), encoding="utf-8")
        ivy = [str(java), f"-Duser.home={scratch}", "-cp", f"{pyspark_jars()}/*", "org.apache.ivy.Main"]
        order = ["-ivy", str(module), "-confs", "default", "-cache", str(scratch / "cache")]
        said = _output([*ivy, *order, "-retrieve", f"{fetched}/[artifact]-[revision].[ext]"])
        found = list(fetched.glob("*.jar"))
        if "UNRESOLVED DEPENDENCIES" in said or "FAILED DOWNLOADS" in said or not found:
            raise Unavailable(f"no jars for {', '.join(coordinates)}: {_tail(said, 12)}")
        kept.mkdir()
        for jar in _not_shipped(found, pyspark_jars().glob("*.jar")):
            jar.rename(kept / jar.name)
        _move(kept, folder)


def _ivy_module(coordinates: Sequence[str]) -> str:
    """An Ivy module file that depends on the coordinates."""
    dependencies = ""
    for coordinate in coordinates:
        parts = coordinate.split(":")
        if len(parts) not in (3, 4):
            raise ConfigError(f"{coordinate!r} is no Maven coordinate: write group:artifact:version[:classifier]")
        org, name, rev, *classifier = map(quoteattr, parts)
        inside = "".join(f'<artifact name={name} type="jar" ext="jar" m:classifier={c}/>' for c in classifier)
        alone = ' transitive="false"' if classifier else ""  # such a jar has what it needs in it
        start = f"<dependency org={org} name={name} rev={rev}{alone}"
        dependencies += f'{start} conf="default->default">{inside}</dependency>'
    confs = '<configurations><conf name="default"/></configurations>'
    head = f'<info organisation="lakehouse" module="jars"/>{confs}'
    maven = 'xmlns:m="http://ant.apache.org/ivy/maven"'
    return f'<ivy-module version="2.0" {maven}>{head}<dependencies>{dependencies}</dependencies></ivy-module>'


def _not_shipped(found: Iterable[Path], shipped: Iterable[Path]) -> list[Path]:
    """The jars of which no version is shipped: with two versions on one path, either may be loaded."""
    there = {_artifact(jar) for jar in shipped}
    return [jar for jar in found if _artifact(jar) not in there]


def _artifact(jar: Path) -> str:
    return re.split(r"-\d", jar.stem, maxsplit=1)[0]


def _jar_folder(coordinates: Sequence[str]) -> Path:
    key = hashlib.sha256("\n".join([*coordinates, version("pyspark")]).encode()).hexdigest()[:16]
    return cache_dir() / "jars" / key


def pyspark_jars() -> Path:
    """The folder of the jars that pyspark ships."""
    spec = find_spec("pyspark")  # finds without importing
    if spec is None or spec.origin is None:
        raise ConfigError("pyspark is not installed: run `make setup`")
    return Path(spec.origin).parent / "jars"


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A folder beside its destination, so that what is made in it can be renamed into place."""
    with tempfile.TemporaryDirectory(dir=parent, prefix=".new-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _move(made: Path, place: Path) -> None:
    """Rename a finished folder to its place, unless another process was faster."""
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _output(command: Sequence[str], cwd: Path | None = None) -> str:
    """Everything a command says, whatever its exit code; why it said nothing, if it couldn't run."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=600,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout


def _tail(said: str, lines: int) -> str:
    return " | ".join(line.strip() for line in said.splitlines()[-lines:] if line.strip())


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


if __name__ == "__main__":
    try:
        prepare()
    except LakehouseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
