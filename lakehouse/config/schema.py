"""What a job looks like to others: the JSON Schema for editors, the settings for the ledger."""

from __future__ import annotations

from typing import Any

from lakehouse.config.models import Job


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
    """What in a job can change a score or a verdict, as JSON-able values with defaults filled in.

    Of the suites only what is in them matters, which is not here.
    """
    whole = job.model_dump(mode="json", by_alias=True)
    features = {key: value for key, value in whole["features"].items() if value or key != "cast"}
    checks = {key: value for key, value in whole["checks"].items() if key not in ("features", "scores")}
    if not checks["strict"]:  # came later: its default changes no fingerprint
        del checks["strict"]
    return {
        **{key: whole[key] for key in ("keys", "keep", "predictions", "slice")},
        "features": features,
        "checks": checks,
        "source": {key: whole["source"][key] for key in ("type", "table", "where")}
        | job.source.model_dump(mode="json", exclude_defaults=True, exclude=set(job.source.NO_SETTINGS)),
        "model": {key: whole["model"][key] for key in ("method", "params")},
        "sinks": [sink["write"] for sink in whole["sinks"]],
        **({"keys_unique": job.keys_unique} if job.keys_unique != "warn" else {}),
    }
