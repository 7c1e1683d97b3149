"""Spark's classes as Java keeps them once loaded and verified (class data sharing): a file in the cache, made once.

About half of what a short session of Spark costs is loading them. Java holds the file against its own build and
each jar on its path, and goes on without it where one is another, so it can't give other classes than the jars'. It
stands beside whatever a session does: where it isn't there, sessions start as ever, only slower.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from lakehouse.engines import runtime

_OWN = ("SPARK_SUBMIT_OPTS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""Where people give Java options of their own."""
_QUIET = "-Xlog:cds*=off"
"""Java would print to stdout why it goes on without a file, and what can't be kept in one."""
LONGEST_S = 600


def options(java: Path) -> list[str]:
    """What a JVM of this Java home is told so that it takes the file; nothing where there is none that fits.

    Nothing either where somebody's own options say what is shared.
    """
    told = " ".join(os.environ.get(name, "") for name in _OWN)
    if "-Xshare" in told or "Archive" in told:
        return []
    file = kept(java)
    return [] if file is None else ["-Xshare:auto", f"-XX:SharedArchiveFile={file}", _QUIET]


def kept(java: Path) -> Path | None:
    """The file for this Java home, if it is there and whole: its name says its size, as Java crashes on a cut one."""
    place, content = _names(java)
    whole = (file for file in place.glob(f"{content}-*.jsa") if file.name == _name(content, file))
    return next(whole, None)


def make(java: Path) -> Path | None:
    """The file for this Java home, made by a short session where it isn't there; None where Java makes none."""
    if file := kept(java):
        return file
    place, content = _names(java)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".new-", ignore_cleanup_errors=True) as folder:
        made = Path(folder, "classes.jsa")
        told = f'"-XX:ArchiveClassesAtExit={made}" {_QUIET}'
        environment = {**os.environ, "JAVA_HOME": str(java), "SPARK_SUBMIT_OPTS": told}
        command = [sys.executable, "-m", "lakehouse.engines.spark.rehearsal"]
        try:
            subprocess.run(command, env=environment, capture_output=True, timeout=LONGEST_S, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        if not made.is_file():
            return None
        with open(made, "rb") as stream:
            os.fsync(stream.fileno())
        for other in place.glob("*.jsa"):  # of jars, or a Java, that have been replaced
            other.unlink(missing_ok=True)
        return made.rename(place / _name(content, made))


def _name(content: str, file: Path) -> str:
    return f"{content}-{file.stat().st_size}.jsa"


def _names(java: Path) -> tuple[Path, str]:
    """The folder, and a name by what Java will compare: its own build, and the jars' names, sizes and times."""
    jars = runtime.pyspark_jars()
    library = java / "lib" / "server"
    files = [*sorted(jars.glob("*.jar")), *sorted(library.glob("*")), java / "release"]
    seen = [f"{file.name} {told.st_size} {told.st_mtime_ns}" for file in files if (told := _stat(file)) is not None]
    place, content = (
        hashlib.sha256(text.encode()).hexdigest()[:16] for text in (f"{jars}\n{java.resolve()}", "\n".join(seen))
    )
    return runtime.cache_dir() / "classes" / place, content


def _stat(file: Path) -> os.stat_result | None:
    with suppress(OSError):
        return file.stat()
    return None
