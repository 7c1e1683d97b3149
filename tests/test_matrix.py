"""Each system of the playbook has a test that runs it or its stand-in, and tests/README.md says which."""

from __future__ import annotations

import ast

import pytest

from tests.matrix import HERE, README, cells, named, with_table

PLACES = ["hosted server", "Google Cloud", "AWS"]


def test_every_cell_is_there():
    rows = cells()
    assert list(rows) == ["API endpoint", "container", "messaging", "storage"]
    assert [list(row) for row in rows.values()] == [PLACES] * len(rows)


@pytest.mark.parametrize("name", list(named()))
def test_the_test_that_a_cell_names_exists(name):
    file, _, function = name.partition("::")
    tree = ast.parse((HERE / file).read_text())
    tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) if node.name.startswith("test_")}
    assert tests
    assert function in {*tests, ""}


def test_the_readme_has_the_table():
    text = README.read_text()
    assert text == with_table(text), "make it anew: python -m tests.matrix"
