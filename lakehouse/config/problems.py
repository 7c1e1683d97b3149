"""What is said when a job is wrong: one line a problem, with its place, what stands there, what is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lakehouse.config.messages import SHARED_FILE, UNQUOTED, Origin, describe_value
from lakehouse.config.systems import SystemSection, models_of
from lakehouse.errors import nearest

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "dict_type": "a section of keys",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "finite_number": "a finite number",
    "string_unicode": "valid Unicode text",
    "string_pattern_mismatch": "at most 100 letters, digits, '_', '.' and '-', the first a letter or digit",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:.10g}",
}
_ELSEWHERE = {
    "date": "not a key of the file: give --date",
    "targets": f"not a key of a job file: targets are in {SHARED_FILE} beside it",
}


def explain(error: ValidationError, model: type[BaseModel], origin: Origin) -> Iterator[str]:
    """One line a problem of a model: where it stands, what is there, what is wanted."""
    for problem in map(_of_its_type, error.errors(include_url=False)):
        at, known, description = _follow(problem["loc"], model)
        if at:
            yield f"{origin(at)}: {_wanted(problem, at, known, description)}"
        else:  # the job's own cross checks name their keys
            for line in str(problem.get("ctx", {}).get("error", problem["msg"])).split("\n"):
                yield f"{origin.path}: {line}"


def _of_its_type(problem: Mapping[str, Any]) -> Mapping[str, Any]:
    """The problem; one with the `type` that chooses between the models of a section as one of this key."""
    if problem["type"] not in ("union_tag_not_found", "union_tag_invalid"):
        return problem
    loc, section = (*problem["loc"], "type"), problem["input"]
    if "type" not in section:
        return {"type": "missing", "loc": loc, "input": section}
    expected = " or ".join(problem["ctx"]["expected_tags"].rsplit(", ", 1))
    return {"type": "literal_error", "loc": loc, "input": section["type"], "ctx": {"expected": expected}}


def _wanted(problem: Mapping[str, Any], at: Sequence[int | str], known: Sequence[str], description: str) -> str:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return _ELSEWHERE.get(".".join(map(str, at)), f"unknown key, {nearest(str(at[-1]), known)}")
    if kind == "missing":
        return f"missing, {description}"
    if kind == "string_too_short":
        return "must not be empty"
    if "[key]" in problem["loc"] or kind == "invalid_key":
        remedy = UNQUOTED if isinstance(value, bool) else "put it in quotes"
        return f"the key must be text, not {describe_value(value)}: {remedy}"
    if kind in _WANTED:
        found = value if kind.endswith("_than_equal") else describe_value(value)
        hint = f": {UNQUOTED}" if isinstance(value, bool) and kind in ("string_type", "literal_error") else ""
        return f"must be {_WANTED[kind].format(**context)}, not {found}{hint}"
    return str(context.get("error", problem["msg"]))


def _follow(loc: Sequence[int | str], section: type[BaseModel]) -> tuple[tuple[int | str, ...], list[str], str]:
    """The key path of a problem, the keys known in the section that it ends in, and what its last key means.

    `loc` is pydantic's, in which the `type` that chose a model of a section, such as "delta", follows the section.
    """
    at, description = list[int | str](), ""
    known = _fields(section)
    for part in loc:
        if part == "[key]":
            continue
        chosen = _models_by_type(section).get(str(part))
        if chosen is not None:
            section, known = chosen, _fields(chosen)
            continue
        at.append(part)
        known, field = _fields(section), _fields(section).get(str(part))
        if field is not None:
            description = field.description or ""
            section = next(_sections(field.annotation), section)
    return tuple(at), list(known), description


def _fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _models_by_type(section: type[BaseModel]) -> dict[str, type[SystemSection]]:
    return dict(models_of(section)) if issubclass(section, SystemSection) else {}
