"""The command line as a person uses it, run in this process: exit code, stdout, stderr, and what it left on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lakehouse import cli


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout: more than one line, or anything before or after it, is an error."""
        line, rest = self.out.split("\n", 1)
        assert rest == ""
        parsed: dict[str, Any] = json.loads(line)
        return parsed


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> Outcome:
    """Run `lakehouse` with these arguments; stderr is no terminal."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    out, err = capfd.readouterr()
    code = ended.value.code
    return Outcome(int(code or 0), out, err)


def tree(*roots: Path) -> Mapping[str, tuple[int, int] | None]:
    """Every file with its size and time of change, and every folder, below these."""
    found = (path for root in roots for path in sorted(root.rglob("*")))
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) if p.is_file() else None for p in found}
