"""Packages that import their modules when something of them is asked for."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ["lakehouse", "lakehouse.checks", "lakehouse.models"]


def imports_for_tools(package):
    """What the package's `TYPE_CHECKING` block imports: (module, name there, name here)."""
    module = importlib.import_module(package)
    found = []
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith(f"{package}."):
            found += [(node.module, one.name, one.asname or one.name) for one in node.names]
    return module, found


@pytest.mark.parametrize("package", PACKAGES)
def test_what_tools_are_told_is_what_is_there(package):
    module, told = imports_for_tools(package)
    assert len(told) > 2
    assert [
        here for where, there, here in told if getattr(module, here) is not getattr(sys.modules[where], there)
    ] == []
    offered = module.__getattr__.__closure__  # the names it has, and no more
    [places] = [cell.cell_contents for cell in offered if isinstance(cell.cell_contents, dict)]
    assert sorted(places) == sorted(here for _, _, here in told)


@pytest.mark.parametrize("package", PACKAGES)
def test_of_a_name_that_is_not_there_the_error_is_pythons_own(package):
    with pytest.raises(AttributeError, match=rf"module '{package}' has no attribute 'nothing'"):
        assert importlib.import_module(package).nothing
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec(f"from {package} import nothing")


def test_what_scores_imports_neither_the_registry_nor_the_storages():
    imports = (
        "import sys, lakehouse.serving.aws_lambda, lakehouse.checks.rules; from lakehouse.models import load, held"
    )
    probe = f"{imports}; print([name for name in sys.argv[1:] if name in sys.modules])"
    names = [
        "lakehouse.models.loading",
        "lakehouse.models.registry",
        "lakehouse.storage",
        "pyarrow.fs",
        "sqlite3",
        "ssl",
    ]
    found = subprocess.run([sys.executable, "-c", probe, *names], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['lakehouse.models.loading']"
