"""Other people's tools that judge the files of conf/deploy, each in an environment of its own, made once in the cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import typer.main

from lakehouse.cli.commands import app
from tests.cloud_servers import installed

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "conf" / "deploy"


def parsed(words: list[str]) -> dict[str, object]:
    """A command line of ours as the command is given it; a word that it doesn't know is an error."""
    name, *rest = words
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]  # a group has commands
    return dict(command.make_context(name, list(rest)).params)


def python_with(*packages: str) -> Path:
    """The Python of an environment that has these packages, such as "name==1.0"; made once. Fails the test where it can't be."""
    if uv := shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent)):
        make = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, "{}"]
        fill = [uv, "pip", "install", "--quiet", "--python", "{}/bin/python", *packages]
    else:
        make = [sys.executable, "-m", "venv", "{}"]
        fill = ["{}/bin/python", "-m", "pip", "install", "--quiet", *packages]
    name = "-".join(["python", f"{sys.version_info[0]}.{sys.version_info[1]}", *packages]).replace("==", "-")
    return installed(name, make, fill) / "bin" / "python"


def answer(python: Path, code: str, *arguments: str) -> str:
    """What a program prints in such an environment; its error is the test's."""
    done = subprocess.run([python, "-I", "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
