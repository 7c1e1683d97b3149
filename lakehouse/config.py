"""The job file: what it may say (pydantic models), how it is read, and what is said when it is wrong."""

from __future__ import annotations

import datetime as dt
import math
import posixpath
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from lakehouse.errors import ConfigError, nearest

TRUST = ("pickle", "code", "python_function")
JOB_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
SHARED_FILE = "lakehouse.yaml"
_DIGEST = r"sha256:[0-9a-f]{64}"
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?P<env>[^}]*)\}|(?P<date>\{date\})")
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dt.date: "a date"}


def _seen(value: object) -> str:
    """Describe a value that stands in the wrong place, for an error message."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return 'a section; write "{date}" in quotes' if value == {"date": None} else "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:59] + '…'} ({_KINDS.get(type(value), type(value).__name__)})"


def _exactly(*types: type) -> BeforeValidator:
    """Accept values of these very types: one line for one mistake in a union, and no bool as an int."""
    wanted = " or ".join(_KINDS[kind] for kind in types if kind in _KINDS)

    def check(value: object) -> object:
        if type(value) not in types:
            raise ValueError(f"must be {wanted}, not {_seen(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"must be a finite number, not {value}")
        return value

    return BeforeValidator(check)


def _listed(value: object) -> object:
    """Take a YAML list as a tuple, since strict pydantic does not."""
    if isinstance(value, (list, tuple)):
        return tuple(value)
    hint = f": write [{value}]" if isinstance(value, str) else ""
    raise ValueError(f"must be a list, not {_seen(value)}{hint}")


def _param(value: object) -> object:
    for item in value if isinstance(value, list) else [value]:
        if type(item) not in (bool, int, float, str):
            raise ValueError(f"must be a single value or a list of single values, not {_seen(item)}")
    return value


def _filled(value: object) -> object:
    if value == "":
        raise ValueError("must not be empty: a slice value names what this run replaces")
    return value


def _trusted(value: str) -> str:
    if value in TRUST or re.fullmatch(_DIGEST, value):
        return value
    if value.startswith("sha256"):
        raise ValueError(f"must be sha256: and 64 lower-case hexadecimal digits, not {value!r}")
    raise ValueError(f"{value!r} can't be trusted, {nearest(value, (*TRUST, 'sha256:<digest>'))}")


def _supported(value: object) -> object:
    if value == "merge":
        raise ValueError("'merge' is not supported yet: 'replace' or 'append'")
    return value


def _at_least_one(what: str) -> AfterValidator:
    def check(value: tuple[object, ...]) -> tuple[object, ...]:
        if not value:
            raise ValueError(f"name at least one {what}")
        return value

    return AfterValidator(check)


Scalar = bool | int | float | str
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
SliceValue = Annotated[
    bool | int | str | dt.date,
    BeforeValidator(_filled),
    _exactly(str, int, bool, dt.date),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}, {"type": "boolean"}]}),
]
Param = Annotated[Scalar | list[Scalar], BeforeValidator(_param)]
Trust = Annotated[
    str,
    AfterValidator(_trusted),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(TRUST)}|{_DIGEST})$"}),
]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_by_alias=True,
        validate_by_name=True,  # Prediction(class_=1) in code; load_job turns it off for files
        defer_build=True,
    )


class Source(_Section):
    """Where the rows to score are read."""

    type: Literal["delta"] = Field(description="the system the input is in")
    table: Text = Field(description="the input table: a path or URI")
    where: Text | None = Field(None, description="SQL condition on the rows to score; may use {date}")
    version: int | None = Field(None, ge=0, description="read this version of the table; default: the newest")
    timestamp: Text | None = Field(None, description="read the table as of this time (ISO 8601)")
    min_rows: int = Field(1, ge=0, description="with fewer rows the input is not ready (exit 6)")

    @model_validator(mode="after")
    def _one_pin(self) -> Source:
        if self.version is not None and self.timestamp is not None:
            raise ValueError("version and timestamp exclude each other: give one of them")
        return self


class Model(_Section):
    """Which model scores the rows, and what about it is accepted."""

    uri: Text = Field(description="the MLflow model: models:/name@alias, models:/name/3, runs:/id/path")
    method: Literal["predict", "predict_proba"] | None = Field(
        None, description="the native method to call, for flavours that have several"
    )
    params: dict[Text, Param] = Field({}, description="inference parameters handed to the model")
    batch_rows: int = Field(
        65536, ge=1, le=10_000_000, description="at most this many rows a call of the model"
    )
    trust: Annotated[tuple[Trust, ...], BeforeValidator(_listed)] = Field(
        (), description="what is accepted beyond safe formats: pickle, code, python_function, sha256:<digest>"
    )
    tracking_uri: Text | None = Field(None, description="MLflow tracking server; default: as MLflow finds it")
    registry_uri: Text | None = Field(None, description="MLflow model registry; default: as MLflow finds it")


class Prediction(_Section):
    """One column of the scored table: which part of the model's output it is."""

    output: Annotated[int | str | None, _exactly(int, str, type(None))] = Field(
        None, description='part of the output: a column number, the name of an output, or "*" for the whole'
    )
    class_: Annotated[Scalar | None, _exactly(bool, int, float, str, type(None))] = Field(
        None,
        validation_alias="class",
        serialization_alias="class",
        description="the class label whose probability is taken",
    )
    threshold: float | None = Field(None, description="makes it a boolean: true from this value on")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, (dict, cls)):
            return value
        if type(value) in (int, str):
            return {"output": value}
        forms = 'a column number, an output\'s name, "*" or {class: label}'
        raise ValueError(f"must be {forms}, not {_seen(value)}")

    @model_validator(mode="after")
    def _one_part(self) -> Prediction:
        if (self.output is None) == (self.class_ is None):
            raise ValueError("give exactly one of output and class")
        if self.output == "" or (isinstance(self.output, int) and self.output < 0):
            raise ValueError(f"output must be a column number from 0 on or a name, not {self.output!r}")
        return self


class Features(_Section):
    """How the table's columns become the model's features."""

    rename: dict[Text, Text] = Field({}, description="feature of the model: column of the table")
    match: Literal["exact", "case_insensitive"] = Field("exact", description="how column names are compared")
    nulls: Literal["model", "quarantine"] = Field(
        "model", description="a null in a required feature: handed to the model, or its row set aside"
    )
    tensor: Texts = Field((), description="columns stacked, in this order, into the model's one tensor input")


class Quarantine(_Section):
    """Where rows that can't be scored go, and how many may."""

    table: Text | None = Field(None, description="default: the first sink's table with _quarantine appended")
    max_fraction: float = Field(0.01, ge=0, le=1, description="a larger fraction of the rows blocks the run")
    max_rows: int | None = Field(None, ge=0, description="more rows than this block the run")


class Checks(_Section):
    """What must hold before anything is published."""

    quarantine: Quarantine = Field(
        default_factory=Quarantine, description="rows set aside with their reasons"
    )


class Sink(_Section):
    """A table that the scores are published to."""

    type: Literal["delta"] = Field(description="the system the table is in")
    table: Text = Field(description="the scored table: a path or URI")
    write: Annotated[Literal["replace", "append"], BeforeValidator(_supported)] = Field(
        "replace", description="replace the slice (or the whole table), or append this date's rows once"
    )


class Tracking(_Section):
    """The MLflow run that gets the figures of each run."""

    experiment: Text = Field(description="the MLflow experiment that gets a run with the figures")


class Job(_Section):
    """One scoring job: what is read, which model scores it, and what is published where."""

    job: Annotated[str, Field(pattern=JOB_NAME)] = Field(
        description="the job's identity: with the slice it names the transaction, so it never changes"
    )
    source: Source = Field(description="where the rows to score are read")
    model: Model = Field(description="which model scores them")
    keys: Annotated[Texts, _at_least_one("column that identifies a row")] = Field(
        description="the columns that identify a row, passed through to the scored table",
        json_schema_extra={"minItems": 1},
    )
    keep: Texts = Field((), description="further columns passed through to the scored table")
    predictions: dict[Text, Prediction] | None = Field(
        None, description="columns of the scored table; default: the names in the model's output signature"
    )
    slice: dict[Text, SliceValue] = Field(
        {}, description="partition columns and the values this run replaces; left out: the whole table"
    )
    features: Features = Field(
        default_factory=Features, description="how the table's columns become the model's features"
    )
    checks: Checks = Field(default_factory=Checks, description="what must hold before anything is published")
    sinks: Annotated[tuple[Sink, ...], BeforeValidator(_listed), _at_least_one("table to publish to")] = (
        Field(
            description="the tables the scores are published to, in this order",
            json_schema_extra={"minItems": 1},
        )
    )
    state: Text | None = Field(
        None, description="where run state lives; default: beside the first sink's table"
    )
    tracking: Tracking | None = Field(None, description="log the figures of each run to MLflow")

    _date: str | None = PrivateAttr(None)
    _path: str = PrivateAttr("")

    @property
    def date(self) -> str | None:
        """The run's logical date (YYYY-MM-DD), given beside the file and never in it."""
        return self._date

    @property
    def path(self) -> str:
        """The job file as it was named; empty for a job made in code."""
        return self._path

    @model_validator(mode="after")
    def _consistent(self) -> Job:
        problems = [*_name_problems(self), *_table_problems(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _name_problems(job: Job) -> Iterator[str]:
    """Columns of the scored table that clash, without regard to case as in Spark, or take a lineage name."""
    computed = [("predictions", name) for name in job.predictions or ()]
    computed += [("slice", name) for name in job.slice]
    given = [("keys", name) for name in job.keys] + [("keep", name) for name in job.keep]
    taken: dict[str, str] = {}
    for section, name in given + computed:
        if name.lower() in taken:
            yield f"{section}: {name!r} is already a column of the scored table, by {taken[name.lower()]}"
        taken.setdefault(name.lower(), f"{section} ({name!r})")
    for section, name in computed:
        if name.startswith("_"):
            yield f"{section}: {name!r} begins with '_', as only lineage columns may"
    if job.predictions is not None and not job.predictions:
        yield "predictions: name at least one column, or leave the section out"


def _table_problems(job: Job) -> Iterator[str]:
    """Sinks that would write over the input, the quarantine or one another, and appends that have a slice."""
    taken = {_table_key(job.source.table): "source.table"}
    if job.checks.quarantine.table is not None:
        taken[_table_key(job.checks.quarantine.table)] = "checks.quarantine.table"
    for number, sink in enumerate(job.sinks):
        key = _table_key(sink.table)
        if key in taken:
            yield f"sinks.{number}.table: {sink.table!r} is also {taken[key]}"
        taken.setdefault(key, f"sinks.{number}.table")
        if sink.write == "append" and job.slice:
            yield f"sinks.{number}.write: append needs a job without slice; with one, use replace"


def _table_key(table: str) -> str:
    return table.rstrip("/") if "://" in table else posixpath.normpath(table)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a job file, for editors; text may hold ${ENV_NAME} and {date}."""
    schema = Job.model_json_schema()
    full = schema["$defs"]["Prediction"]
    full["oneOf"] = [{"required": ["output"]}, {"required": ["class"]}]
    schema["$defs"]["Prediction"] = {
        "description": full["description"],
        "examples": [0, "probability", "*", {"class": 1}, {"output": 0, "threshold": 0.5}],
        "anyOf": [
            {"type": "integer", "minimum": 0, "description": "a column of a vector or matrix"},
            {"type": "string", "minLength": 1, "description": 'a named output, or "*" for the whole output'},
            full,
        ],
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lakehouse job file"}
    return {**head, **_allow_placeholders({**schema, **head})}


def _allow_placeholders(node: Any) -> Any:
    """Let text with ${ENV_NAME} or {date} through where a pattern or a list of choices would refuse it."""
    if isinstance(node, list):
        return [_allow_placeholders(item) for item in node]
    if not isinstance(node, dict):
        return node
    tight = {key: node[key] for key in ("pattern", "enum", "const") if key in node}
    if node.get("type") != "string" or not tight:
        return {key: _allow_placeholders(value) for key, value in node.items()}
    rest = {key: value for key, value in node.items() if key not in tight}
    return {**rest, "anyOf": [tight, {"pattern": r"\$\{[^}]+\}|\{date\}"}]}


def settings(job: Job) -> dict[str, Any]:
    """What in a job can change a score or a verdict, as JSON-able values with defaults filled in."""
    whole = job.model_dump(mode="json", by_alias=True)
    return {
        **{key: whole[key] for key in ("keys", "keep", "predictions", "slice", "features", "checks")},
        "source": {key: whole["source"][key] for key in ("type", "table", "where")},
        "model": {key: whole["model"][key] for key in ("method", "params")},
        "sinks": [sink["write"] for sink in whole["sinks"]],
    }


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
    raw: dict[str, Any] = {}
    for layer in layers.values():
        raw = deep_merge(raw, layer)
    for text in overrides:
        raw = _override(raw, text)
    origin = _Origin(str(path), layers, overrides)
    filled = _fill(raw, date, environ, origin)
    try:
        job = Job.model_validate(filled, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(error, origin))) from error
    dated = any(match["date"] for match in _PLACEHOLDER.finditer(raw["source"].get("where") or ""))
    if any(sink.write == "append" for sink in job.sinks) and not dated:
        example = "such as \"day = '{date}'\", or the next run appends the same rows"
        raise ConfigError(f"{origin(('source', 'where'))}: append needs a condition with {{date}}, {example}")
    job._date, job._path = date, str(path)
    return job


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
    if not shared_path.exists():
        if target is not None:
            raise ConfigError(f"target {target!r} needs {shared_path}, which does not exist")
        return {str(path): job}
    shared = _read_yaml(shared_path)
    for key in shared:
        if key not in ("defaults", "targets"):
            hint = nearest(str(key), ("defaults", "targets"))
            raise ConfigError(f"{shared_path}: {key}: unknown key, {hint}")
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
        raise ConfigError(f"{name}: must be a section of keys, not {_seen(value)}")
    return value


class _Loader(yaml.SafeLoader):
    """YAML as safe_load reads it, but dates stay text and a key given twice is an error."""

    def construct_document(self, node: yaml.Node) -> Any:
        self.deep_construct = True  # an alias to its own parent is then an error instead of an endless value
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
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
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        beside = [file.name for file in path.parent.glob("*.yaml") if file.name != SHARED_FILE]
        hint = nearest(path.name, beside) if beside else "and no *.yaml where it should be"
        raise ConfigError(f"{path}: no such file, {hint}") from error
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
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
        raise ConfigError(f"override {text!r}: {head!r} is sought in {_seen(node)}, which is not a section")
    return {**(node or {}), head: _put((node or {}).get(head), rest, value, text)}


class _Origin:
    """Names the file or override that gave the value at a key path, and the path."""

    def __init__(self, path: str, layers: Mapping[str, Mapping[str, Any]], overrides: Sequence[str]) -> None:
        self.path, self._layers, self._overrides = path, layers, overrides

    def __call__(self, at: Sequence[object]) -> str:
        dotted = ".".join(str(part) for part in at)
        paths = {text.partition("=")[0].strip() + ".": f"override {text!r}" for text in self._overrides}
        names = [name for name, layer in self._layers.items() if _has(layer, at)] or [
            name for path, name in paths.items() if path.startswith(f"{dotted}.")
        ]
        names += [name for path, name in paths.items() if f"{dotted}.".startswith(path)]
        return f"{names[-1] if names else self.path}: {dotted}"


def _has(node: Any, at: Sequence[object]) -> bool:
    for part in at:
        in_list = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if not in_list and not (isinstance(node, dict) and part in node):
            return False
        node = node[part]
    return True


def _fill(
    raw: dict[str, Any], date: str | None, environ: Mapping[str, str], origin: _Origin
) -> dict[str, Any]:
    """Fill ${ENV_NAME} and {date} in every text value; what was filled in is not looked at again."""
    unset: list[str] = []
    undated: list[str] = []

    def fill(node: Any, at: tuple[object, ...]) -> Any:
        if isinstance(node, dict):
            return {key: fill(value, (*at, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [fill(value, (*at, number)) for number, value in enumerate(node)]
        return _PLACEHOLDER.sub(lambda match: put(match, at), node) if isinstance(node, str) else node

    def put(match: re.Match[str], at: tuple[object, ...]) -> str:
        if match["date"]:
            undated.append(".".join(map(str, at)))
            return date or ""
        if match["env"] is None:
            return "${"
        if match["env"] not in environ:
            hint = "set it, or write $${ for a plain ${"
            unset.append(f"{origin(at)}: environment variable {match['env']!r} is not set: {hint}")
        return environ.get(match["env"], "")

    filled: dict[str, Any] = fill(raw, ())
    if undated and date is None:
        places = ", ".join(dict.fromkeys(undated))
        unset.append(f"{origin.path} uses {{date}} at {places}: give --date YYYY-MM-DD")
    if unset:
        raise ConfigError("\n".join(unset))
    return filled


_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "dict_type": "a section of keys",
    "model_type": "a section of keys",
    "finite_number": "a finite number",
    "string_unicode": "valid Unicode text",
}
_ELSEWHERE = {
    "date": "not a key of the file: give --date",
    "targets": f"not a key of a job file: targets are in {SHARED_FILE} beside it",
}


def _lines(error: ValidationError, origin: _Origin) -> Iterator[str]:
    """One line a problem: where it stands, what is there, what is wanted."""
    for problem in error.errors(include_url=False):
        at = tuple(part for part in problem["loc"] if part != "[key]")
        if at:
            yield f"{origin(at)}: {_explain(problem['type'], at, problem)}"
        else:  # the job's own cross checks name their keys
            for line in str(problem.get("ctx", {}).get("error", problem["msg"])).split("\n"):
                yield f"{origin.path}: {line}"


def _explain(kind: str, at: tuple[int | str, ...], problem: Mapping[str, Any]) -> str:
    context, value = problem.get("ctx", {}), problem["input"]
    section, description = _described(at)
    if kind == "extra_forbidden":
        hint = f"unknown key, {nearest(str(at[-1]), section)}"
        return _ELSEWHERE.get(str(at[0]), hint) if len(at) == 1 else hint
    if kind == "missing":
        return f"missing, {description}"
    if kind == "string_too_short":
        return "must not be empty"
    if "[key]" in problem["loc"] or kind == "invalid_key":
        return f"the key must be text, not {_seen(value)}: put it in quotes"
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {_seen(value)}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {_seen(value)}"
    if kind == "string_pattern_mismatch":
        letters = "letters, digits, '_', '.' and '-', the first a letter or digit"
        return f"must be at most 100 {letters}, not {_seen(value)}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']:g}" if "ge" in context else f"at most {context['le']:.10g}"
        return f"must be {bound}, not {value}"
    return str(context.get("error", problem["msg"]))


def _described(at: tuple[int | str, ...]) -> tuple[list[str], str]:
    """The keys known in the section that a key path ends in, and what its last key means."""
    section: type[BaseModel] = Job
    description = ""
    for part in at:
        fields = {str(field.validation_alias or name): field for name, field in section.model_fields.items()}
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
