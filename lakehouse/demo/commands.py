"""How the demo shows what it does: headings, and the commands that a person would type, run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lakehouse.engines import quiet
from lakehouse.errors import LakehouseError

LAKE = Path("lake")
TRACKING = f"sqlite:///{LAKE}/mlflow.db"


def step(text: str) -> None:
    """Print the heading of a part of the demo."""
    print(f"\n── {text}", flush=True)


def submit(conf: str, day: str, *options: str) -> None:
    """Run the entry point under the pip package's own spark-submit."""
    call([*spark_submit(), str(entry()), conf, "--date", day, *options])


def lakehouse(*arguments: str) -> None:
    """Run `lakehouse` with these arguments, as from a shell."""
    call([sys.executable, "-m", "lakehouse.cli", *arguments])


def entry() -> Path:
    """The project's entry point, or one like it where there is no project."""
    entry = Path("jobs/score.py")
    if not entry.exists():
        # A file of the package itself won't do: its folder would be on sys.path, with `delta` and `config` in it.
        entry = LAKE / "score.py"
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_text('import sys\n\nfrom lakehouse.cli import main\n\nmain(["score", *sys.argv[1:]])\n')
    return entry


def spark_submit() -> list[str]:
    """The command that submits a job to Spark on this machine."""
    command = [str(Path(sys.executable).with_name("spark-submit"))]
    properties = Path("conf/spark/local.conf")
    if properties.exists():
        return [*command, "--properties-file", str(properties)]
    settings = {
        "spark.master": "local[*,4]",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        **quiet.settings(),
    }
    return [*command, *(part for name, value in settings.items() for part in ("--conf", f"{name}={value}"))]


def call(command: Sequence[str]) -> None:
    """Run a command to its end and show what it says. Raises LakehouseError if it fails."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if quiet.shows_everything() or not quiet.is_noise(line.encode()):
                print(line, end="", flush=True)
    if process.returncode:
        raise LakehouseError(f"{' '.join(command)} ended with exit code {process.returncode}")


def answer(command: Sequence[str]) -> str:
    """What a command prints to stdout. Raises LakehouseError if it fails."""
    done = subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800, check=False
    )
    if done.returncode:
        raise LakehouseError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def environment() -> dict[str, str]:
    """The environment of the demo's commands."""
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment
