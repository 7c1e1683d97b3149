"""The environment of Daft and Ray, which the project itself does not need: made on demand from peers.txt."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-bench"
WANTED = Path(__file__).with_name("peers.txt")
_MINUTES = 15


def python() -> tuple[Path | None, str]:
    """Its Python, made first where it isn't there; else None, and why: the last line of what the installer said."""
    found, stamp = FOLDER / "bin" / "python", FOLDER / ".installed"
    digest = sha256(WANTED.read_bytes() + sys.version.encode()).hexdigest()
    if found.exists() and stamp.exists() and stamp.read_text() == digest:
        return found, ""
    print(f"making {FOLDER.name} for Daft and Ray: a minute or more", file=sys.stderr, flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for command in _commands(found):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 * _MINUTES, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return None, str(error)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    stamp.write_text(digest)
    return found, ""


def _commands(python: Path) -> list[list[str]]:
    """How to make it: by uv where there is one, as it takes seconds where pip takes minutes."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if os.access(beside, os.X_OK) else shutil.which("uv")
    if uv:
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "--compile-bytecode", "-r", str(WANTED)]
        return [[uv, "venv", "--quiet", "--python", sys.executable, str(FOLDER)], install]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(WANTED)]
    return [[sys.executable, "-m", "venv", str(FOLDER)], pip]
