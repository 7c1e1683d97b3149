"""`lakehouse init`: a first job file from a model and a table, with what was found in both."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from lakehouse import models
from lakehouse.cli import outputs
from lakehouse.config import Features, Signature, json_schema
from lakehouse.config import Model as ModelConfig
from lakehouse.config.messages import SHARED_FILE
from lakehouse.connectors.delta import Snapshot, open_table
from lakehouse.engines import scratch
from lakehouse.errors import ConfigError, LakehouseError, in_yaml, nearest
from lakehouse.models.conversions import conversion_of, requested_conversion, type_name
from lakehouse.planning.unsigned import Draft, draft_signature
from lakehouse.schemas import finder
from lakehouse.storage import display_name, locate, siblings

_ANY = ("pickle", "code", "python_function")  # nothing is loaded here, only described


def write(uri: str, table: str, out: Path | None, tracking_uri: str | None) -> Path:
    """Write the job file; its path. Raises ConfigError where it exists already, or model or table don't."""
    for what, given in (("MODEL", uri), ("TABLE", table), ("--tracking-uri", tracking_uri)):
        if given == "":
            raise ConfigError(f"{what} is empty: the command is lakehouse init models:/<name>@<alias> <table>")
    if uri.startswith("models:") and (braced := re.search(r"\{([^{}]+)\}", uri)):
        raise ConfigError(
            f"MODEL: {braced[0]} in {uri} stands for a column's values: init one of these models by its whole name, "
            f"then put {braced[0]} into model.uri and add model.by: {in_yaml(braced[1])}"
        )
    config = ModelConfig(uri=uri, tracking_uri=tracking_uri, trust=_ANY)
    if out is not None:
        _refuse_existing(out)
    location = locate(table)
    snapshot = open_table(location)
    if snapshot is None:
        hint = nearest(location.path.rsplit("/", 1)[-1], siblings(location))
        raise ConfigError(f"there is no Delta table at {display_name(location)}; {hint}")
    folder_of = out.parent if out else Path("conf")
    if tracking_uri is None and (shared := _tracking_of_project(folder_of)):
        config = config.model_copy(update={"tracking_uri": shared})
    resolved = models.resolve(config)
    target = out or folder_of / f"{resolved.name}.yaml"
    _refuse_existing(target)
    job = re.sub(r"[^A-Za-z0-9_.-]", "_", out.stem if out else resolved.name)
    scored = f"{_beside(table)}/{job}_scores"
    _refuse_taken(target, job, scored)
    with scratch.folder() as folder:
        found = models.fetch(config, resolved, folder)
        needed = [what for what, _ in models.needs_of(found)]
        drafted = None if found.signature else _draft(found, snapshot, needed, table)
        if drafted is not None:
            inputs = models.specs_of(Signature(inputs=drafted.inputs))["inputs"]
            found = replace(found, signature=inputs, declared=True)
        classes = () if needed else _classes(found)
    schema = target.with_name("job.schema.json")
    if not schema.exists():
        outputs.write(schema, json.dumps(json_schema(), indent=2) + "\n")
    outputs.write(target, _text(found, snapshot, table, uri, tracking_uri, needed, classes, job, scored, drafted))
    return target


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise ConfigError(f"{target} is there already: name another file with --out")


def _tracking_of_project(folder: Path) -> str | None:
    """The tracking server that the shared file beside the job file has for all jobs, if any."""
    found = _read(folder / SHARED_FILE).get("defaults")
    section = found.get("model") if isinstance(found, dict) else None
    uri = section.get("tracking_uri") if isinstance(section, dict) else None
    return uri if isinstance(uri, str) and "${" not in uri else None


def _refuse_taken(target: Path, job: str, scored: str) -> None:
    """Raise ConfigError where another job file beside it has the job's name or its scored table.

    Two files of one job would take each other's scores for their own and replace them.
    """
    for other in sorted(target.parent.glob("*.y*ml")):
        content = _read(other)
        sinks = content.get("sinks") if isinstance(content.get("sinks"), list) else []
        tables = [sink.get("table") for sink in sinks or () if isinstance(sink, dict)]
        if content.get("job") == job or scored in tables:
            what = f"the job {job!r}" if content.get("job") == job else f"a job that publishes to {scored}"
            raise ConfigError(f"{other} is {what} already: name another file with --out, its name is the job's")


def _read(path: Path) -> dict[str, Any]:
    """A YAML file's mapping; empty where it is none, which is for whoever runs that job to be told."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _draft(found: models.FetchedModel, snapshot: Snapshot, needed: list[str], table: str) -> Draft:
    """A signature for a model that has none: the columns that its library names, or all but the likeliest key.

    A model that is not safe to load is not asked.
    """
    trained = None
    if not needed:
        with suppress(LakehouseError):  # the first run says why it can't be loaded
            trained = models.load(found.path, found.digest, None, ()).trained
    key, _ = _key(snapshot, set(trained.names if trained else ()))
    left_out = {key, *snapshot.partition_columns}
    return draft_signature(snapshot.schema, trained, left_out, Features(match="case_insensitive"), table)


def _classes(found: models.FetchedModel) -> tuple[Any, ...]:
    """The labels of a classifier that gives probabilities; none for other models, and where it can't be loaded."""
    try:
        return models.load(found.path, found.digest, "predict_proba", ()).classes or ()
    except LakehouseError:  # the first run says why; here it only makes the draft shorter
        return ()


def _text(
    found: models.FetchedModel, snapshot: Snapshot, table: str, uri: str, tracking_uri: str | None, needed: list[str],
    classes: tuple[Any, ...], job: str, scored: str, drafted: Draft | None,
) -> str:  # fmt: skip
    inputs = models.inputs_of(found)
    renames, notes = _match(inputs, snapshot.schema)
    used = {renames.get(name, name) for name, _, _ in inputs}
    key, others = _key(snapshot, used)
    day = next((c for c in snapshot.partition_columns if _is_day(snapshot.schema.field(c))), None)
    source = {"type": "delta", "table": table} | ({"where": f"{day} = '{{date}}'"} if day else {})
    chosen: dict[str, object] = {"uri": uri}
    if tracking_uri:
        chosen["tracking_uri"] = tracking_uri
    chosen |= {"method": "predict_proba"} if classes else {}
    chosen |= drafted.section if drafted is not None else {}
    sections: list[tuple[str, Mapping[str, object]]] = [
        (f"scores {table} with {found.name} v{found.version}", {"job": job}),
        ("where the rows to score are read", {"source": source}),
        (
            "method: predict_proba gives the probabilities of a classifier's classes, with, say,\n"
            "# predictions: {probability: {class: 1}}"
            if not classes
            else "which model scores them",
            {"model": chosen},
        ),
        (f"identifies a row; other columns: {', '.join(others) or 'none'}", {"keys": [key]}),
        ("further columns of the table for the scored table", {"keep": []}),
    ]
    if classes:
        sections.append(("columns of the scored table", {"predictions": _predictions(classes)}))
    if renames:
        sections.append(("feature of the model: column of the table", {"features": {"rename": renames}}))
    if day:
        sections.append(("what a run replaces", {"slice": {"score_date": "{date}"}}))
    aside = {"table": f"{scored}_quarantine", "max_fraction": 0.01}
    sections += [
        (
            "rows that can't be scored go there, and how many may; features, scores: Great Expectations suites",
            {"checks": {"quarantine": aside}},
        ),
        ("the scored table", {"sinks": [{"type": "delta", "table": scored}]}),
    ]
    head = ["# yaml-language-server: $schema=job.schema.json"]
    if drafted is None:
        head.append("# The model's signature:")
    else:
        head += ["# The model has no signature: model.signature is a draft to look through. The features:"]
        head += [f"# {note}" for note in drafted.notes]
    head += [f"#   {name}: {type_name(kind)}{'' if required else ', may be null'}" for name, kind, required in inputs]
    head += [f"# {note}" for note in [*notes, *_tensor_notes(found, snapshot.schema)]]
    if needed:
        head.append(
            "# TODO: not safe to load; if you trust whoever logged it, add model: "
            f"{{trust: {models.trust_list(needed)}}}"
        )
    body = [
        f"# {why}\n{yaml.safe_dump(content, sort_keys=False, default_flow_style=False)}" for why, content in sections
    ]
    return "\n".join([*head, "", *body])


def _match(inputs: list[tuple[str, pa.DataType, bool]], schema: pa.Schema) -> tuple[dict[str, str], list[str]]:
    """Renames for features whose column is spelt otherwise, and notes on those that don't fit."""
    renames, notes = {}, []
    find = finder(schema.names, case_insensitive=True)
    for name, kind, required in inputs:
        column = find(name)
        if column is None:
            close = difflib.get_close_matches(name, schema.names, n=1, cutoff=0.8)
            column = close[0] if close else None
        if column is None and not required:
            notes.append(f"{name!r} is optional and has no column: it is left out")
            continue
        if column is None:
            near = nearest(name, schema.names)
            near = f" ({near})" if near.startswith("did") else ""
            notes.append(
                f"TODO: no column for the feature {name!r}{near}: add features: {{rename: {{{in_yaml(name)}: …}}}}"
            )
            continue
        if column != name:
            renames[name] = column
        given = schema.field(column).type
        how = conversion_of(given, kind)
        if how:
            notes.append(f"{column!r} ({given}) becomes {type_name(kind)} {how}")
        elif how is None and requested_conversion(given, kind) is not None:
            word = f"features: {{cast: {{{in_yaml(name)}: {type_name(kind)}}}}}"
            notes.append(f"TODO: {column!r} is {given}, the model wants {type_name(kind)}; if it is meant so: {word}")
        elif how is None:
            notes.append(f"TODO: {column!r} is {given}, the model wants {type_name(kind)}, which it does not become")
    return renames, notes


def _tensor_notes(found: models.FetchedModel, schema: pa.Schema) -> list[str]:
    """The arrays that a model takes instead of columns; what each is made of only a person can say."""
    notes = []
    for spec in found.signature:
        told = spec.get("tensor-spec") or {}
        if not told:
            continue
        name = spec.get("name")
        notes.append(
            f"  {f'{name}: ' if name else ''}an array of {told.get('dtype')}, shape {list(told.get('shape') or ())}"
        )
        if name is None or name not in schema.names:
            columns = f"{{{in_yaml(str(name))}: […]}}" if name else "[…]"
            notes.append(
                f"TODO: say which columns it is made of, or the one that holds it: add features: {{tensor: {columns}}}"
            )
    return notes


def _key(snapshot: Snapshot, used: set[str]) -> tuple[str, list[str]]:
    """The likeliest key, and the columns that are neither key nor feature."""
    free = [c for c in snapshot.schema.names if c not in used and c not in snapshot.partition_columns]
    # Sorting is stable: of equals the first column of the table.
    ranked = sorted(free, key=lambda c: (not c.lower().endswith("id"), not _plain(snapshot.schema.field(c))))
    key = ranked[0] if ranked else snapshot.schema.names[0]
    return key, [c for c in free if c != key]


def _plain(field: pa.Field) -> bool:
    return bool(pa.types.is_integer(field.type) or pa.types.is_string(field.type))


def _is_day(field: pa.Field) -> bool:
    return bool(pa.types.is_date(field.type) or ("date" in field.name.lower() and pa.types.is_string(field.type)))


def _beside(table: str) -> str:
    """The folder for the scored table: that of the features' table, or `scores` beside a folder of features."""
    path = table.rstrip("/") if "://" in table or Path(table).name else str(Path(table).resolve())
    parent = path.rpartition("/")[0] or "."
    folder = parent.removesuffix("features")
    return f"{folder}scores" if folder != parent and (not folder or folder.endswith("/")) else parent


def _predictions(classes: tuple[Any, ...]) -> dict[str, object]:
    """The probability of the second of two classes, of each of more."""
    if len(classes) == 2:
        return {"probability": {"class": classes[1]}}
    return {f"probability_{label}": {"class": label} for label in classes}
