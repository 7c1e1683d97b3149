"""`model.signature` in the job file: its forms, what is said of others, and when a change of it is one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lakehouse.config import Job, Signature, settings
from lakehouse.config.signature import DTYPES
from lakehouse.models.tensors import DTYPES as TENSORS

JOB: dict[str, Any] = {
    "job": "scores",
    "source": {"type": "delta", "table": "features"},
    "model": {"uri": "models:/m@a"},
    "keys": ["id"],
    "sinks": [{"type": "delta", "table": "scores"}],
}


def fingerprinted(**signature: Any) -> Any:
    return settings(Job.model_validate({**JOB, "model": {**JOB["model"], "signature": signature}}))["model"]


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ({"inputs": {"age": "duble"}}, "age: 'duble' is no type of MLflow's, did you mean 'double'?"),
        ({"inputs": {"a": "array<array<strin>>"}}, "a: 'strin' is no type of MLflow's, did you mean 'string'?"),
        ({"inputs": {"a": None}}, "a: must be a type such as double, not nothing (null)"),
        ({"inputs": {"a": {"type": "long", "require": True}}}, "a: unknown key 'require', did you mean 'required'?"),
        ({"inputs": {"a": {"type": "long", "required": "no"}}}, "a.required: must be true or false, not 'no' (text)"),
        ({"inputs": {False: "long"}}, "the name must be text, not false (true or false): put it in quotes"),
        ({"inputs": {}}, "must be columns, each with its type, or {tensor: float32, shape: [-1, 20]}, not an empty"),
        ({"inputs": {"tensor": "double", "shape": [-1, 2]}}, "tensor: 'double' is no type of an array"),
        ({"inputs": {"tensor": "float32", "shape": [8, 2]}}, "shape: must be [-1, columns], of any number of rows"),
        ({"inputs": {"tensor": "float32", "shape": [-1, 2, 0]}}, "or have more dimensions, not [-1, 2, 0]"),
        ({"inputs": {"tensor": "float32", "shape": []}}, "or have more dimensions, not []"),
        ({"inputs": {"tensor": "float32", "shape": [-1, True]}}, "or have more dimensions, not [-1, True]"),
        ({"inputs": {"a": "long"}, "outputs": ["long"]}, "must be a type, or names each with a type, not a list"),
        ({"inputs": {"a": "long"}, "outputs": {"p": "flaot"}}, "p: 'flaot' is no type of MLflow's, did you mean 'float'?"),
        ({"inputs": {"a": "long"}, "params": {"k": "binary"}}, "k: a parameter is a single value or a list of such"),
    ],
)  # fmt: skip
def test_another_value_is_refused_in_one_line(signature, said):
    with pytest.raises(ValidationError) as refused:
        Signature(**signature)
    (problem,) = refused.value.errors()
    assert said in problem["msg"]


def test_an_array_may_have_any_type_that_a_tensor_has_and_more_dimensions():
    for dtype in TENSORS:
        assert Signature(inputs={"tensor": dtype, "shape": [-1, 28, 28, -1]}).inputs["shape"] == [-1, 28, 28, -1]
    assert set(TENSORS) == set(DTYPES)


def test_a_column_may_be_called_tensor():
    assert Signature(inputs={"tensor": "double"}).inputs == {"tensor": "double"}


def test_a_job_without_a_signature_keeps_its_fingerprint():
    assert settings(Job.model_validate(JOB))["model"] == {"method": None, "params": {}}


def test_a_longer_way_of_saying_the_same_is_no_change():
    assert fingerprinted(inputs={"a": {"type": "long", "required": True}}, outputs=None, params={}) == fingerprinted(
        inputs={"a": "long"}
    )


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": {"b": "long", "a": "long"}},  # the order of columns can decide which is which
        {"inputs": {"a": "long", "b": "double"}},
        {"inputs": {"a": "long", "b": {"type": "long", "required": False}}},
        {"inputs": {"a": "long", "b": "long"}, "outputs": "double"},
        {"inputs": {"a": "long", "b": "long"}, "params": {"k": "long"}},
    ],
    ids=str,
)
def test_another_signature_is_a_change(other):
    assert fingerprinted(**other) != fingerprinted(inputs={"a": "long", "b": "long"})
