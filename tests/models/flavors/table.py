"""The table of flavours in lakehouse/models/flavors/README.md: `python -m tests.models.flavors.table` writes it anew."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lakehouse.models.loading import QUIET
from tests.models.flavors import boosted, graphs, nets, other, pipelines, scikit
from tests.models.flavors.case import Entry
from tests.models.flavors.comparing import EQUAL, by_pyfunc, by_udf, connect, difference, run

README = Path(__file__).parents[3] / "lakehouse" / "models" / "flavors" / "README.md"
BEGIN, END = "<!-- flavors: begin -->", "<!-- flavors: end -->"
HEAD = ("flavour", "takes", "answers", "a run", "`mlflow.pyfunc`", "`spark_udf`", "how `spark_udf` fails")

ENTRIES: Mapping[str, Entry] = {
    e.name: e for module in (scikit, boosted, graphs, nets, other, pipelines) for e in module.ENTRIES
}

Row = tuple[str, ...]


def entries(*, by_spark: bool = True) -> Iterator[Any]:
    """The names of all entries, or of those that workers call; one whose library is not here is expected to fail."""
    for name, entry in ENTRIES.items():
        if by_spark or entry.flavor != "spark":
            why = f"{entry.library} is no part of the tests' packages, and not installed here"
            marks = [] if entry.installed else [pytest.mark.xfail(run=False, reason=why)]
            yield pytest.param(name, id=name, marks=marks)


def committed() -> dict[str, Row]:
    """The rows of the table, by the names of their entries."""
    lines = README.read_text().split(BEGIN)[1].split(END)[0].strip().splitlines()
    rows = [tuple(cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")) for line in lines[2:]]
    return {Entry(*row[:3], make=lambda: None).name: row for row in rows}  # type: ignore[arg-type,return-value]


def measure(entry: Entry, spark: Any, name: str) -> Row:
    """An entry's row: trained, logged under this name and scored in every way, in the working directory."""
    case = entry.make()
    uri = case.log(name).model_uri
    _, answer = run(uri, case)
    ours = difference(answer, case) or EQUAL
    ours += f", {len(case.aside)} row{'s' * (len(case.aside) > 1)} set aside" if case.aside else ""
    pyfunc, (udf, why) = by_pyfunc(uri, case)[0], by_udf(spark, uri, case)
    return (entry.flavor, entry.takes, entry.answers, ours, pyfunc, udf, why)


def write(*flavors: str) -> None:
    """Measure the entries of these flavours, or all whose library is here, and write the table."""
    from lakehouse.engines import spark as engine

    rows, names, before = [], (f"flavor{i}" for i in itertools.count()), committed()
    with tempfile.TemporaryDirectory() as folder, engine.session(delta=True) as spark:
        spark.sparkContext.setLogLevel("OFF")
        os.environ.update(QUIET)
        connect(Path(folder))
        for entry, name in zip(ENTRIES.values(), names, strict=False):
            if (flavors and entry.flavor not in flavors) or not entry.installed:
                rows += [tuple(c.replace("¦", "\\|") for c in before[entry.name])] if entry.name in before else []
                continue
            os.makedirs(f"{folder}/{name}")
            with contextlib.chdir(f"{folder}/{name}"):
                rows.append(measure(entry, spark, name))
            print(*rows[-1], sep=" | ", flush=True)
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    head, rest = README.read_text().split(BEGIN)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    README.write_text(f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    write(*sys.argv[1:])
