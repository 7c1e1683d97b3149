"""Only what belongs to a system knows its name: elsewhere nothing is compared with it, and no module of it imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lakehouse.config.systems import Sink, Source, models_of

PACKAGE = Path(__file__).parents[1] / "lakehouse"
KINDS = ("connectors", "sinks", "sources")
OWN = (*KINDS, "demo", "integrations", "storage", "views/sql/dialects")
"""The folders that may know systems by name; a dialect of SQL is its system's own."""
EXCEPT = {
    "cli/draft.py",  # `init` drafts jobs over Delta tables only
    "runs/tables.py",  # the state folder's own tables are Delta tables, whatever the job's are
}
"""The modules that may, and why."""
ALSO = {"prometheus": ["serving/counting.py"]}
"""Of those who are told of runs, the modules that name one for another reason: a server counts its own requests."""


@cache
def systems() -> set[str]:
    """What has a folder in connectors or sinks, or a module in sources."""
    folders = {path.parent.name for kind in KINDS for path in (PACKAGE / kind).glob("*/__init__.py")}
    return folders | {path.stem for path in (PACKAGE / "sources").glob("*.py")} - {"__init__"}


def known(text: str) -> list[str]:
    """The comparisons with a system's name in a module's text, and its imports of a system's modules."""
    return [ast.unparse(node) for node in ast.walk(ast.parse(text)) if _compares(node) or _imports(node)]


def _compares(node: ast.AST) -> bool:
    """Whether values are held against a system's name: by an operator, or by a case of match."""
    if not isinstance(node, ast.Compare | ast.MatchValue):
        return False
    return any(isinstance(part, ast.Constant) and part.value in systems() for part in ast.walk(node))


def _imports(node: ast.AST) -> bool:
    return any(name.split(".")[:3] in _modules() for name in _names(node))


@cache
def _modules() -> list[list[str]]:
    return [["lakehouse", kind, system] for kind in KINDS for system in systems()]


def _names(node: ast.AST) -> Iterator[str]:
    """The full names of all that a statement may import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_systems_are_found():
    assert systems() == {*models_of(Source), *models_of(Sink)} >= {"delta", "snowflake"}


def test_no_other_module_knows_a_system_by_its_name():
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    others = {name: path for name, path in paths.items() if not name.startswith(tuple(f"{folder}/" for folder in OWN))}
    found = {name: said for name, path in sorted(others.items()) if (said := known(path.read_text()))}
    assert {name: said for name, said in found.items() if name not in EXCEPT} == {}
    assert EXCEPT - found.keys() == set(), "take these out of EXCEPT"


@pytest.mark.parametrize("name", ["slack", "openlineage", "opentelemetry", "prometheus"])
def test_who_is_told_of_runs_is_named_in_its_own_files_only(name: str):
    own = {f"observe/{name}.py", f"config/systems/{name}.py", *ALSO.get(name, ())}
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if name in path.read_text().lower()}
    assert found <= own
    assert found


@pytest.mark.parametrize(
    "text",
    [
        "if sink.type == 'delta': pass", "of = 'a' if job.sinks[0].type != 'snowflake' else 'b'",
        "x = system in ('delta', 'iceberg')", "x = {a.type, b.type} == {'delta'}", "x = ('sink', 'delta') == (k, t)",
        "match sink.type:\n    case 'delta' | 'other': pass", "from lakehouse.connectors import delta",
        "from lakehouse.connectors.snowflake.names import folded", "import lakehouse.sources.delta as d",
        "def f():\n    from lakehouse.sinks.snowflake import history",
    ],
)  # fmt: skip
def test_what_names_a_system_is_seen(text):
    assert len(known(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from lakehouse.sinks import of", "of('delta')", "x = name == 'deltas'", "from lakehouse.sinks.target import T",
        "import delta", "from snowflake import connector", "from lakehouse.connectors.digest import delta",
    ],
)  # fmt: skip
def test_what_only_looks_alike_is_not(text):
    assert known(text) == []
