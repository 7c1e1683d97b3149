"""What is said when a job is wrong: one line a problem, with its place, what stands there, what is wanted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lakehouse.errors import nearest

SHARED_FILE = "lakehouse.yaml"
UNQUOTED = "YAML takes yes, no, on, off, true and false for true or false: put a text in quotes"
KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dt.date: "a date"}


def seen(value: object) -> str:
    """Describe a value that stands in the wrong place, for an error message."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return 'a section; write "{date}" in quotes' if value == {"date": None} else "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{text if len(text) <= 60 else text[:59] + '…'} ({KINDS.get(type(value), type(value).__name__)})"


@dataclass(frozen=True)
class Origin:
    """Names the file or override that gave the value at a key path, and the path."""

    path: str
    layers: Mapping[str, Mapping[str, Any]]
    overrides: Sequence[str]

    def __call__(self, at: Sequence[object]) -> str:
        dotted = ".".join(str(part) for part in at)
        paths = {text.partition("=")[0].strip() + ".": f"override {text!r}" for text in self.overrides}
        names = [name for name, layer in self.layers.items() if _has(layer, at)]
        names = names or [name for path, name in paths.items() if path.startswith(f"{dotted}.")]
        names += [name for path, name in paths.items() if f"{dotted}.".startswith(path)]
        return f"{names[-1] if names else self.path}: {dotted}"


def _has(node: Any, at: Sequence[Any]) -> bool:
    if not at:
        return True
    known = range(len(node)) if isinstance(node, list) else node if isinstance(node, dict) else ()
    return at[0] in known and _has(node[at[0]], at[1:])


_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "dict_type": "a section of keys",
    "model_type": "a section of keys",
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
    for problem in error.errors(include_url=False):
        at = tuple(part for part in problem["loc"] if part != "[key]")
        if at:
            yield f"{origin(at)}: {_wanted(problem, at, model)}"
        else:  # the job's own cross checks name their keys
            for line in str(problem.get("ctx", {}).get("error", problem["msg"])).split("\n"):
                yield f"{origin.path}: {line}"


def _wanted(problem: Mapping[str, Any], at: tuple[int | str, ...], model: type[BaseModel]) -> str:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    known, description = _described(at, model)
    if kind == "extra_forbidden":
        return _ELSEWHERE.get(".".join(map(str, at)), f"unknown key, {nearest(str(at[-1]), known)}")
    if kind == "missing":
        return f"missing, {description}"
    if kind == "string_too_short":
        return "must not be empty"
    if "[key]" in problem["loc"] or kind == "invalid_key":
        return f"the key must be text, not {seen(value)}: {UNQUOTED if isinstance(value, bool) else 'put it in quotes'}"
    if kind in _WANTED:
        found = value if kind.endswith("_than_equal") else seen(value)
        hint = f": {UNQUOTED}" if isinstance(value, bool) and kind in ("string_type", "literal_error") else ""
        return f"must be {_WANTED[kind].format(**context)}, not {found}{hint}"
    return str(context.get("error", problem["msg"]))


def _described(at: tuple[int | str, ...], section: type[BaseModel]) -> tuple[list[str], str]:
    """The keys known in the section that a key path ends in, and what its last key means."""
    description = ""
    for part in at:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        known, field = list(fields), fields.get(str(part))
        if field is not None:
            description = field.description or ""
            section = next(_sections(field.annotation), section)
    return known, description


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
