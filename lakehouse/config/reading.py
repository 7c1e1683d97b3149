"""How a job is read: YAML, the files that lie over one another, overrides, ${ENV_NAME} and {date}."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Hashable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lakehouse.config.job import Job
from lakehouse.config.messages import SHARED_FILE, Origin, describe_value
from lakehouse.config.placeholders import fill, uses_date
from lakehouse.config.places import missing_file_message, require_here
from lakehouse.config.problems import explain
from lakehouse.config.systems import Source, models_of
from lakehouse.errors import ConfigError, nearest


def load_job(
    path: str | Path,
    *,
    date: str | None,
    target: str | None = None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str],
) -> Job:
    """Read a job file, with lakehouse.yaml beside it, a target and overrides (a.b=value) merged in.

    Raises ConfigError, one line a problem, for anything wrong with the files or the arguments.
    """
    if date is not None and not _is_date(date):
        raise ConfigError(f"--date {date!r} is not a date: give YYYY-MM-DD")
    path = Path(path)
    layers = _layers(path, target)
    raw = reduce(_override, overrides, reduce(deep_merge, layers.values()))
    origin = Origin(str(path), layers, overrides)
    _require_one_place(raw, origin)
    try:
        job = Job.model_validate(fill(raw, date, environ, origin), by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Job, origin))) from error
    dated = any(uses_date(raw["source"].get(key) or "") for key in ("where", "query"))
    if any(sink.write == "append" for sink in job.sinks) and not dated and not job.source.IN_RANGES:
        example = "such as \"day = '{date}'\", or the next run appends the same rows"
        raise ConfigError(f"{origin(('source', 'where'))}: append needs a condition with {{date}}, {example}")
    job._date, job._path, job._dated = date, str(path), _is_dated(raw)
    require_here(job, path)
    return job


def _is_dated(node: Any) -> bool:
    """Whether the run's date is filled in anywhere."""
    if isinstance(node, (dict, list)):
        return any(map(_is_dated, node.values() if isinstance(node, dict) else node))
    return isinstance(node, str) and uses_date(node)


def _require_one_place(raw: Mapping[str, Any], origin: Origin) -> None:
    """Raise ConfigError where what remembers up to where an input is read would be another one each date."""
    source = raw.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    known = models_of(Source).get(kind) if isinstance(kind, str) else None
    if known is None or not known.IN_RANGES:
        return
    for key in ("job", "sinks", "state"):
        if _is_dated(raw.get(key)):
            raise ConfigError(
                f"{origin((key,))}: {{date}} does not go together with source.type: {kind}: up to where it was read, "
                "the job's own table remembers, so that each date would begin anew and score the same again; leave "
                "{date} out"
            )


def _is_date(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def deep_merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another: sections merge key by key, anything else replaces."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            value = deep_merge(below, value)
        merged[key] = value
    return merged


def _layers(path: Path, target: str | None) -> dict[str, dict[str, Any]]:
    """The mappings that make up a job, lowest first, by the name that an error gives each."""
    job = _read_yaml(path)
    shared_path = path.parent / SHARED_FILE
    if target is not None and not shared_path.exists():
        raise ConfigError(f"target {target!r} needs {shared_path}, which does not exist")
    shared = _read_yaml(shared_path) if shared_path.exists() else {}
    for key in shared:
        if key not in ("defaults", "targets"):
            raise ConfigError(f"{shared_path}: {key}: unknown key, {nearest(str(key), ('defaults', 'targets'))}")
    base = f"{shared_path}: defaults"
    layers = {base: _section(shared.get("defaults"), base), str(path): job}
    targets = _section(shared.get("targets"), f"{shared_path}: targets")
    if target is not None:
        name = f"{shared_path}: targets.{target}"
        if target not in targets:
            raise ConfigError(f"{name}: unknown target, {nearest(target, map(str, targets))}")
        layers[name] = _section(targets[target], name)
    return layers


def _section(value: object, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: must be a section of keys, not {describe_value(value)}")
    return value


class _Loader(yaml.SafeLoader):
    """YAML as safe_load reads it, but dates stay text and a key given twice is an error."""

    def construct_document(self, node: yaml.Node) -> Any:
        self.deep_construct = True  # an alias to its own parent is then an error instead of an endless value
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if (key_node.tag, key_node.value) == ("tag:yaml.org,2002:bool", "on"):  # a key of `notify`, for YAML true
                key_node.tag = "tag:yaml.org,2002:str"
            merges = key_node.tag == "tag:yaml.org,2002:merge"
            key = "<<" if merges else self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in lines:
                problem = f"the key {key!r} is given twice, first in line {lines[key]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if isinstance(key, Hashable):
                lines[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse(text: str | bytes, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{name}{at}: not readable as YAML: {problem}") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML lets the plain errors through, for values that don't fit an explicit tag and for deep nesting
        raise ConfigError(f"{name}: not readable as YAML: {' '.join(str(error).split())}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        known = nearest("", (file.name for file in path.glob("*.yaml")))
        raise ConfigError(f"{path} is a folder: name a job file in it, {known}")
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        beside = [file.name for file in path.parent.glob("*.yaml") if file.name != SHARED_FILE]
        said = missing_file_message(path)
        hint = "" if said.endswith("?") else f", {nearest(path.name, beside)}" if beside else ", and no *.yaml there"
        raise ConfigError(f"{path}: {said}{hint}") from error
    except (OSError, ValueError) as error:  # a null byte is a ValueError
        raise ConfigError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    return _section(_parse(text, str(path)), str(path))


def _override(raw: dict[str, Any], text: str) -> dict[str, Any]:
    """Apply one a.b.c=value; the value is YAML, a number in the path indexes a list."""
    dotted, equals, value = text.partition("=")
    parts = dotted.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override {text!r}: give key.key=value")
    bare = value.strip() == "{date}"  # which YAML would take for a mapping
    put: dict[str, Any] = _put(raw, parts, "{date}" if bare else _parse(value, f"override {text!r}"), text)
    return put


def _put(node: Any, parts: Sequence[str], value: Any, text: str) -> Any:
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if isinstance(node, list):
        if not re.fullmatch(r"[0-9]{1,9}", head) or int(head) >= len(node):
            entries = f"the list has {len(node)} {'entry' if len(node) == 1 else 'entries'}, counted from 0"
            raise ConfigError(f"override {text!r}: index {head} is out of range, {entries}")
        at = int(head)
        return [*node[:at], _put(node[at], rest, value, text), *node[at + 1 :]]
    if node is not None and not isinstance(node, dict):
        raise ConfigError(f"override {text!r}: {head!r} is sought in {describe_value(node)}, which is not a section")
    return {**(node or {}), head: _put((node or {}).get(head), rest, value, text)}
