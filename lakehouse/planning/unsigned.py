"""A model without a signature: it is refused, with a first draft of one made from the table and from the model."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml

from lakehouse import models
from lakehouse.errors import ConfigError, ModelRefused, nearest
from lakehouse.models.signature import UNSIGNED
from lakehouse.planning import isolating
from lakehouse.schemas import OF_MESSAGES, finder

if TYPE_CHECKING:
    from lakehouse.config import Features, Job


@dataclass(frozen=True)
class Draft:
    """Features with their types, in MLflow's words, and what a person should look at."""

    inputs: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def section(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The part of the job file's `model`."""
        return {"signature": {"inputs": dict(self.inputs)}}

    def __str__(self) -> str:
        """Lines of YAML to put under the job file's `model:`."""
        notes = "".join(f"# {note}\n" for note in self.notes)
        body = yaml.safe_dump(self.section, sort_keys=False, width=100, default_flow_style=None)
        return textwrap.indent(notes + body, "  ").rstrip()


def require_signature(job: Job, model: models.FetchedModel, schema: pa.Schema, table: str) -> None:
    """Raise ModelRefused for a model without a signature, with a draft to put into the job file.

    `model` is judged already: it is loaded, to ask its library which columns it was trained on.
    """
    if model.signature:
        return
    trained = None
    if not model.on_frames:
        trained = models.load(isolating.isolated(job, model).folder, model.digest, None, ()).trained
    left_out = {*job.keys, *job.keep, *job.slice, *(OF_MESSAGES if job.source.IN_RANGES else ())}
    draft = draft_signature(schema, trained, left_out, job.features, table)
    raise ModelRefused(
        f"{model.uri}{UNSIGNED}, or look through this draft and add it to the job file, under model:\n{draft}"
    )


def draft_signature(
    schema: pa.Schema, asked: models.Trained | None, left_out: Collection[str], features: Features, table: str
) -> Draft:
    """The columns that the model's library names with the table's types, or else all but those left out.

    `asked`: what the library says, None where it could not be asked. Raises ConfigError where no column can be one.
    """
    trained = asked or models.Trained()
    if trained.shape:
        note = "the model takes an array: say which column holds it, or which it is made of: features: {tensor: […]}"
        return Draft({"tensor": trained.dtype, "shape": [-1, *trained.shape]}, (note,))
    find, notes, inputs = finder(schema.names, features.match == "case_insensitive"), list[str](), dict[str, str]()
    feature_of = {column: feature for feature, column in features.rename.items()}
    others = [feature_of.get(name, name) for name in schema.names if name not in left_out]
    for name in trained.names or others:
        column = find(features.rename.get(name, name))
        kind = None if column is None else models.type_for(schema.field(column).type)
        if column is None:
            near = nearest(name, schema.names)
            notes.append(f"TODO: {table} has no column {name!r}" + (f", {near}" if near.startswith("did") else ""))
        elif kind is None:
            notes.append(f"{column} is {schema.field(column).type}, which no feature can be")
        if kind is not None or trained.names:
            inputs[name] = kind or "double"
    if not trained.names:
        why = "the model was not loaded" if asked is None else "the model does not name its columns"
        notes.append(f"{why}: these are all of {table} but keys, keep and slice")
        if trained.count not in (None, len(inputs)):
            notes.append(f"TODO: the model takes {trained.count} columns, these are {len(inputs)}")
    if not inputs:
        raise ConfigError(f"{table} has no column that could be a feature, besides keys, keep and slice")
    return Draft(inputs, tuple(notes))
