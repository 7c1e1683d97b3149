"""The words that error messages share."""

from __future__ import annotations

import pytest
import yaml

from lakehouse.errors import in_yaml, nearest


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a_b-1.x",
        "0",
        "no",
        "on",
        "a b",
        " a",
        "a ",
        "a: b",
        "a #b",
        "Age (years)",
        "é",
        "",
        "{x}",
        "null",
        'say "x"',
        "-",
    ],
)
def test_a_name_in_the_braces_of_a_job_file_is_that_name(name):
    assert yaml.safe_load(f"{{{in_yaml(name)}: [{in_yaml(name)}]}}") == {name: [name]}


def test_the_nearest_name_is_one_of_other_case():
    assert nearest("S", ["a", "s", "t"]) == "did you mean 's'?"
    assert nearest("CHAMPION", ["champion", "other"]) == "did you mean 'champion'?"
