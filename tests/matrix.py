"""The table of systems in tests/README.md, made of matrix.yaml: `python -m tests.matrix` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
README = HERE / "README.md"
BEGIN, END = "<!-- systems: begin -->", "<!-- systems: end -->"
NOT_YET = "not yet"


@dataclass(frozen=True)
class Cell:
    """A system, what runs of it in the tests, and these: `file::function` or a file, below this folder."""

    system: str
    runs: str
    tests: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.tests:
            return f"{self.system}: {NOT_YET}"
        files = dict.fromkeys(name.split("::")[0] for name in self.tests)
        return f"{self.system}: {self.runs}; {', '.join(f'[{Path(f).name}]({f})' for f in files)}"


def cells() -> Mapping[str, Mapping[str, Cell]]:
    """The cells by kind and place."""
    given = yaml.safe_load((HERE / "matrix.yaml").read_text())
    return {
        kind: {place: Cell(**{**cell, "tests": tuple(cell.get("tests", ()))}) for place, cell in row.items()}
        for kind, row in given.items()
    }


def table() -> str:
    """All cells in Markdown."""
    rows = cells()
    places = list(next(iter(rows.values())))
    lines = [["", *places], ["---"] * (1 + len(places))]
    lines += [[kind, *(str(row[place]) for place in places)] for kind, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def named() -> Iterator[str]:
    """Every test that a cell names."""
    for row in cells().values():
        for cell in row.values():
            yield from cell.tests


def with_table(text: str) -> str:
    """The README with the table of today's cells."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
