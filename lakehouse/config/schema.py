"""What a job looks like to others: the JSON Schema for editors, the settings for the ledger."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from lakehouse.config.job import Job


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
    if "discriminator" in node:  # several may let a text through that holds a placeholder
        rest = {key: value for key, value in node.items() if key not in ("discriminator", "oneOf")}
        return {**_allow_placeholders(rest), "anyOf": node["oneOf"]}
    tight = {key: node[key] for key in ("pattern", "enum", "const") if key in node}
    if node.get("type") != "string" or not tight:
        return {key: _allow_placeholders(value) for key, value in node.items()}
    rest = {key: value for key, value in node.items() if key not in tight}
    return {**rest, "anyOf": [tight, {"pattern": r"\$\{[^}]+\}|\{date\}"}]}


def settings(job: Job) -> dict[str, Any]:
    """What in a job can change a score or a verdict, as JSON-able values.

    Of the suites only what is in them matters, which is not here. A setting that has its default is left out, so that
    one which is added to the job file changes no fingerprint; but for those that fingerprints have always held.
    """
    whole = job.model_dump(mode="json", by_alias=True)
    predictions = {name: _settings(part) for name, part in (job.predictions or {}).items()}
    checks = {key: value for key, value in _settings(job.checks).items() if key not in ("features", "scores")}
    return {
        **{key: whole[key] for key in ("keys", "keep", "slice")},
        "predictions": None if job.predictions is None else predictions,
        "features": _settings(job.features),
        "checks": checks,
        "source": {key: whole["source"][key] for key in ("type", "table", "where")}
        | job.source.model_dump(mode="json", exclude_defaults=True, exclude=set(job.source.NO_SETTINGS)),
        "model": {key: whole["model"][key] for key in ("method", "params")} | _signature(job) | _by(job) | _own(job),
        "sinks": [sink["write"] for sink in whole["sinks"]],
        **({"explanations": _settings(job.explanations)} if job.explanations is not None else {}),
        **({"receipts": True} if job.receipts is not None else {}),
        **({"keys_unique": job.keys_unique} if job.keys_unique != "warn" else {}),
    }


def _by(job: Job) -> dict[str, Any]:
    """The column that says which model a row is for, if any, and what becomes of rows without one."""
    return {} if job.model.by is None else {"by": job.model.by, "missing": job.model.missing}


def _own(job: Job) -> dict[str, str]:
    """That the model runs on other libraries than those here, where it does."""
    return {"environment": "isolated"} if job.model.environment == "isolated" else {}


def _signature(job: Job) -> dict[str, Any]:
    """The signature that the job gives its model, if any: pairs, since the order of features can change a score."""
    given = job.model.signature
    if given is None:
        return {}
    parts = {name: part for name, part in _settings(given).items() if part}
    return {"signature": {n: list(p.items()) if isinstance(p, dict) else p for n, p in parts.items()}}


_ALWAYS = {
    "Prediction": ("output", "class_", "threshold"),
    "Features": ("rename", "match", "nulls", "tensor"),
    "Checks": ("drift", "quarantine"),
    "Quarantine": ("table", "max_fraction", "max_rows"),
    "Drift": ("psi", "action"),
}
"""By section what fingerprints hold with its default, too. Nothing may be added here, or fingerprints change."""


def _settings(section: BaseModel) -> dict[str, Any]:
    """A section's settings without those that have their default, but for `_ALWAYS`; sections in it likewise."""
    kind, found = type(section), {}
    for name, field in kind.model_fields.items():
        value = getattr(section, name)
        if name in _ALWAYS.get(kind.__name__, ()) or value != field.get_default(call_default_factory=True):
            plain = list(value) if isinstance(value, tuple) else value
            found[field.alias or name] = _settings(value) if isinstance(value, BaseModel) else plain
    return found
