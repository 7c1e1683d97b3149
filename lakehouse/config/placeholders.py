"""`${ENV_NAME}` and `{date}` in the texts of a job file, and what is said of other things in braces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse.config.messages import Origin
from lakehouse.errors import ConfigError

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?P<env>[^}]*)\}|(?P<date>\{date\})")
_BRACED = re.compile(r"(?<!\$)(?P<twice>\{)?\{\s*(?P<name>[A-Za-z_]\w*)(?P<rest>[^{}]*)\}\}?")
_AIRFLOW = re.compile(
    r"(?:prev_|next_|yesterday_|tomorrow_)?[dt]s(?:_nodash)?(?:_with_tz)?|data_interval_(?:start|end)|dag(?:_run)?"
    r"|(?:prev_|next_)?(?:logical|execution)_date|run_id|macros|params|var|task(?:_instance)?|ti|conf"
)  # fmt: skip
_MEANT = re.compile(r"date|(?:run|score|event|current|as_of)_?date|today|day|yyyy.*", re.IGNORECASE)
_SQL = (("source", "where"), ("source", "query"))
_APART = re.compile(r"""'[^']*(?:'|$)|"[^"]*(?:"|$)|`[^`]*(?:`|$)|--[^\n]*|/\*.*?(?:\*/|$)""", re.DOTALL)
_BEFORE_OPERAND = re.compile(r"(?:[=<>(,]|\b(?:between|and|or|in|like))\s*$", re.IGNORECASE)


def uses_date(text: str) -> bool:
    """Whether the run's date is filled into a text."""
    return any(match["date"] for match in _PLACEHOLDER.finditer(text))


def fill(raw: dict[str, Any], date: str | None, environ: Mapping[str, str], origin: Origin) -> dict[str, Any]:
    """Fill ${ENV_NAME} and {date} in every text value; what was filled in is not looked at again.

    Raises ConfigError, one line a problem: what isn't set, and what stands in braces that nobody fills in.
    """
    problems: list[str] = []
    undated: list[str] = []

    def filled(node: Any, at: tuple[object, ...]) -> Any:
        if isinstance(node, dict):
            return {key: filled(value, (*at, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value, (*at, number)) for number, value in enumerate(node)]
        if not isinstance(node, str):
            return node
        problems.extend(f"{origin(at)}: {said}" for said in _doubts(node, at))
        return _PLACEHOLDER.sub(lambda match: put(match, at), node)

    def put(match: re.Match[str], at: tuple[object, ...]) -> str:
        if match["date"]:
            undated.append(".".join(map(str, at)))
            return date or ""
        if match["env"] is None:
            return "${"
        if match["env"] not in environ:
            hint = "set it, or write $${ for a plain ${"
            problems.append(f"{origin(at)}: environment variable {match['env']!r} is not set: {hint}")
        return environ.get(match["env"], "")

    whole: dict[str, Any] = filled(raw, ())
    if undated and date is None:
        places = ", ".join(dict.fromkeys(undated))
        problems.append(f"{origin.path} uses {{date}} at {places}: give --date YYYY-MM-DD")
    if problems:
        raise ConfigError("\n".join(problems))
    return whole


def _doubts(text: str, at: tuple[object, ...]) -> Iterator[str]:
    """What in braces nobody fills in, and a date that would be arithmetic."""
    for match in _BRACED.finditer(text):
        if _AIRFLOW.fullmatch(match["name"]):
            yield (
                f"{match[0]} is a macro of Airflow, which fills in a task's own arguments and not this file: write "
                "{date} here, and --date {{ ds }} in the task"
            )
        elif at[0] in ("source", "slice") and _MEANT.fullmatch(match["name"]) and match[0] != "{date}":
            yield f"{match[0]} is not filled in: the run's date is {{date}}"
        elif match[0] == "{date}" and at in _SQL and _is_operand(text, match.start()):
            column = re.search(r"(\S+)\s*(?:=|==|<|>|<=|>=|<>|!=)\s*$", text[: match.start()])
            yield (
                "{date} without quotes is arithmetic, 2026-01-02 is 2023: a date must be quoted, "
                f"{column[1] if column else 'event_date'} = '{{date}}'"
            )


def _is_operand(text: str, position: int) -> bool:
    """Whether what stands there in an SQL text is compared or an argument: in no quotes, comment, name or path."""
    apart = any(found.start() < position < found.end() for found in _APART.finditer(text))
    return not apart and _BEFORE_OPERAND.search(text, 0, position) is not None
