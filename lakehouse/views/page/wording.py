"""The words and numbers of a page: its verdict, and how counts, shares, values and times are written. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

_LONGEST = 160  # characters of one value on the page
STATES = ("failed", "warning", "set aside", "noted", "not evaluated", "passed")


class VerdictWords(NamedTuple):
    """The top of the page. tone: "good", "mixed", "bad" or "plain"; explained: the run's message adds little to it."""

    tone: str
    title: str
    why: str
    next: str
    explained: bool = False


def verdict(run: Mapping[str, Any]) -> VerdictWords:
    """What became of the run, why, and what its reader does next."""
    bad = [rule for rule in run.get("rules", ()) if state(rule) in ("failed", "warning")]
    drifted = [str(c.get("column", "?")) for c in run.get("drift", {}).get("columns", ()) if c.get("drifted")]
    status = str(run.get("status", "unknown"))
    if status == "blocked":
        causes = _causes(run, [rule for rule in bad if rule.get("blocks")], drifted)
        why = ", and ".join(cause for cause, _ in causes) or "a check did not pass"
        then = causes[0][1] if causes else "See below what is wrong, mend it, then run the job again."
        return VerdictWords(
            "bad", "BLOCKED", f"Nothing was published: {why}. What was live before still is.", then, bool(causes)
        )
    if status == "held":
        why = "Nothing is published yet: a person looks at these scores first. What was live before still is."
        return VerdictWords(
            "plain", "HELD", why, "Publish them with `lakehouse publish`, or give them up with `discard`."
        )
    if status != "published":
        return VerdictWords("plain", status.upper(), "", "")
    table = next((s["table"] for s in run.get("sinks", ()) if s.get("kind") == "sink" and "table" in s), "")
    day = f" for {run['date']}" if run.get("date") else ""
    scored = run.get("rows_scored")
    rows = counted(scored, "row") if isinstance(scored, int) else "The rows"
    live = f"{rows}{day} {'is' if scored == 1 else 'are'} live{f' in {table}' if table else ''}"
    if former := run.get("restored"):
        return VerdictWords(
            "plain", "ROLLED BACK", f"A person put former scores back: {live}.", f"What follows is of run {former}."
        )
    if bad or drifted:
        found = [counted(len(bad), "rule") + " failed"] if bad else []
        found += [counted(len(drifted), "column") + " drifted"] if drifted else []
        look = f"Look at {'them' if len(bad + drifted) > 1 else 'it'} below before you rely on these scores."
        return VerdictWords("mixed", "PUBLISHED WITH WARNINGS", f"{live}, but {' and '.join(found)}.", look)
    aside = number(run.get("rows_quarantined"))
    if not aside:
        return VerdictWords("good", "PUBLISHED", f"{live}.", "Nothing to do.")
    within = ", within the budget" if "allowed" in run.get("budget", {}) else ""
    said = f"{live}; {counted(aside, 'row')} {'was' if aside == 1 else 'were'} set aside{within}."
    return VerdictWords("good", "PUBLISHED", said, "Nothing has to be done; what was wrong with them is told below.")


def _causes(run: Mapping[str, Any], rules: Sequence[Any], drifted: Sequence[str]) -> list[tuple[str, str]]:
    """Why a run was blocked, each with its remedy; of runs that don't say themselves, as far as it can be seen."""
    budget, seen = run.get("budget", {}), []
    if number(budget.get("quarantined")) > number(budget.get("allowed"), math.inf):
        seen.append({"kind": "budget"})
    seen += [{"kind": "rule"}] if rules else []
    seen += [{"kind": "drift"}] if drifted and run["drift"].get("action") == "block" else []
    causes = run.get("causes") or seen
    kinds = dict.fromkeys(str(cause.get("kind")) for cause in causes)
    known = {
        "budget": lambda: _of_budget(run),
        "rule": lambda: _of_rules(rules),
        "drift": lambda: _of_drift(drifted),
    }
    told = [known[kind]() for kind in known if kind in kinds]
    others = [str(cause.get("said")) for cause in causes if cause.get("kind") not in known]
    return [*told, *((said, "Mend it where these rows come from, then run the job again.") for said in others)]


def _of_budget(run: Mapping[str, Any]) -> tuple[str, str]:
    budget = run.get("budget", {})
    aside, allowed, read = (number(v) for v in (budget.get("quarantined"), budget.get("allowed"), run.get("rows_read")))
    if aside == read > 0:
        return f"not one of {count(read)} rows could be scored", (
            "See below what is wrong with these rows and mend it where they come from, then run the job again."
        )
    at_most = f"only {count(allowed)} may be" if allowed else "none may be"
    of = f" of {count(read)}" if read else ""
    limit = "max_rows" if budget.get("max_rows") == allowed else "max_fraction"
    return f"{count(aside)}{of} rows had to be set aside, {at_most}", (
        "See below what is wrong with these rows and mend it where they come from (or raise "
        f"checks.quarantine.{limit}, if so many are normal), then run the job again."
    )


def _of_rules(rules: Sequence[Any]) -> tuple[str, str]:
    names = ", ".join(f"“{rule.get('name', '?')}”" for rule in rules[:2])
    more = f" and {len(rules) - 2} more" if len(rules) > 2 else ""
    return f"{counted(len(rules), 'rule')} failed ({names}{more})", (
        "See the failed rules below and mend the input (or the rule, if it asks too much), then run the job again."
    )


def _of_drift(drifted: Sequence[str]) -> tuple[str, str]:
    return f"{counted(len(drifted), 'column')} drifted beyond the threshold", (
        "Find out what changed before these columns reach this job; if the change is meant, train the model anew, "
        "then run the job again."
    )


def state(rule: Mapping[str, Any]) -> str:
    """One of STATES."""
    if rule.get("success") is None:
        return "not evaluated"
    if rule["success"]:
        return "passed"
    if rule.get("set_aside"):
        return "set aside"
    severity = rule.get("severity")
    return "failed" if rule.get("blocks") or severity == "critical" else "noted" if severity == "info" else "warning"


def number(value: Any, otherwise: float = 0.0) -> float:
    """A finite number to draw with."""
    plain = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if plain else otherwise


def count(value: Any) -> str:
    """A number of rows or the like."""
    plain = number(value, math.nan)
    return "" if math.isnan(plain) else f"{plain:,.0f}"


def counted(many: float, what: str) -> str:
    """A count with its noun."""
    return f"{count(many)} {what}{'' if many == 1 else 's'}"


def share(value: Any) -> str:
    """A fraction in percent; what isn't quite none or all doesn't look so."""
    fraction = number(value, math.nan)
    if math.isnan(fraction):
        return ""
    if 0 < fraction < 0.0001:
        return "<0.01%"
    if 0.9999 < fraction < 1:
        return ">99.99%"
    digits = 1 if 0.1 <= fraction < 0.9 else 2
    return f"{100 * fraction:.{digits}f}".rstrip("0").rstrip(".") + "%"


def decimal(value: Any) -> str:
    """A number for an axis."""
    plain = number(value, math.nan)
    if math.isnan(plain):
        return ""
    return f"{plain:,.0f}" if 1000 <= abs(plain) < 1e7 else f"{plain:.3g}"


def statistic(value: Any) -> str:
    """A statistic such as PSI, to compare with others in its column."""
    plain = number(value, math.nan)
    return "–" if math.isnan(plain) else f"{plain:.3f}"


def value(value: Any) -> str:
    """Any value of the data, short."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, float):
        text = f"{value:.6g}" if abs(value) < 1e15 else str(value)
    else:  # the template's missing names are no JSON either
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def arguments(kwargs: Any) -> str:
    """A rule's arguments, less those that have a place of their own."""
    shown = kwargs.items() if isinstance(kwargs, Mapping) else ()
    return ", ".join(f"{name}={value(given)}" for name, given in shown if name not in ("column", "mostly"))


def duration(value: Any) -> str:
    """Seconds, as people say them."""
    seconds = number(value)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def instant(value: Any) -> str:
    """An ISO time without its T and fractions; anything else as it is."""
    moment = _moment(value)
    if moment is None:
        return str(value)
    zone = "UTC" if moment.tzname() == "UTC" else moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S} {zone}".strip()


def took(run: Mapping[str, Any]) -> float:
    """Seconds from start to end; the stages' sum where these aren't known."""
    start, end = _moment(run.get("started_at")), _moment(run.get("finished_at"))
    if start and end and (start.tzinfo is None) == (end.tzinfo is None):
        return max((end - start).total_seconds(), 0.0)
    return sum(number(seconds) for seconds in run.get("seconds", {}).values())
