"""The reference of the job file's keys, as Markdown: `python -m lakehouse.config.reference FILE` renews it in a page.

It is made of the models alone, so that a key that is added to one, or a system that is added, needs no more than its
own description and example.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lakehouse.config.job import Job

BEGIN, END = "<!-- keys -->", "<!-- end -->"
"""The lines in a page between which the reference lies."""
_HEAD = "| key | type | default | example | what it means |\n|---|---|---|---|---|"
_NAMES = {"string": "text", "boolean": "`true` or `false`"}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}


def reference() -> str:
    """Every section of the job file with a table of its keys: type, default, example and meaning."""
    schema = Job.model_json_schema(by_alias=True)
    parts = [f"### {title}\n\n{section['description']}\n\n{_table(section)}" for title, section in _sections(schema)]
    return "\n\n".join(parts)


def with_reference(page: str) -> str:
    """The page with the reference in it as it is now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{rest.partition(END)[2]}"


def _sections(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each section with its title: the job first, then each of its sections followed by those within it."""
    defs = schema["$defs"]

    def within(path: str, section: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for key, value in section["properties"].items():
            models = [defs[name] for name in _models(value)]
            for model in models:
                title = f"`{path}{key}`{_repeated_keys(value)}"
                if len(models) > 1:  # the systems, told apart by their type
                    title += f" with `type: {model['properties']['type']['const']}`"
                yield title, model
                yield from within(f"{path}{key}.", model)

    yield "The job", schema
    yield from within("", schema)


def _models(value: Mapping[str, Any]) -> list[str]:
    """The names of the models that a key's value may be."""
    if "$ref" in value:
        return [value["$ref"].rpartition("/")[2]]
    return [name for part in _parts(value) for name in _models(part)]


def _parts(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas that a key's schema is put together of."""
    inner = [value[key] for key in ("items", "additionalProperties") if isinstance(value.get(key), dict)]
    return [*value.get("anyOf", ()), *value.get("oneOf", ()), *inner]


def _repeated_keys(value: Mapping[str, Any]) -> str:
    """What follows the name of a section of which there may be several."""
    if value.get("type") == "array":
        return ", each entry"
    return ", each name" if _models(value) and "$ref" not in value and _maps(value) else ""


def _maps(value: Mapping[str, Any]) -> bool:
    return any(part.get("type") == "object" for part in (value, *value.get("anyOf", ())))


def _table(section: Mapping[str, Any]) -> str:
    required, rows = section.get("required", ()), list[str]()
    for key, value in section["properties"].items():
        cells = [f"`{key}`", _type(value), _default(value, key in required), _example(key, value), _meaning(value)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([_HEAD, *rows])


def _type(value: Mapping[str, Any]) -> str:
    if "const" in value or "enum" in value:
        return " or ".join(f"`{choice}`" for choice in value.get("enum", [value.get("const")]))
    if "$ref" in value or "oneOf" in value or "properties" in value:
        return "section"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(part) for part in value["anyOf"] if part.get("type") != "null"))
    if value["type"] == "array":
        return "list of sections" if _models(value) else f"list of {_type(value['items'])}"
    if value["type"] == "object":
        return f"names, each with: {_type(value['additionalProperties'])}"
    bounds = "".join(f", {words} {value[bound]}" for bound, words in _BOUNDS.items() if bound in value)
    return f"{_NAMES.get(value['type'], value['type'])}{bounds}"


def _default(value: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = value.get("default")
    return "" if default in (None, [], {}) else f"`{json.dumps(default)}`".replace('"', "")


def _example(key: str, value: Mapping[str, Any]) -> str:
    if "const" not in value and "examples" not in value:
        return "see below" if _models(value) else ""
    example = value["const"] if "const" in value else value["examples"][0]
    text = yaml.safe_dump(example, default_flow_style=True, width=10_000, sort_keys=False)
    return f"`{key}: {text.splitlines()[0]}`"  # a single value is followed by the end of a document


def _meaning(value: Mapping[str, Any]) -> str:
    return str(value["description"]).replace("<", "&lt;").replace("|", "\\|")


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_reference(file.read_text()))
