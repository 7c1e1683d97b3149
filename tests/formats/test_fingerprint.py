"""Fingerprints: what must not change them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lakehouse import config
from lakehouse.config import settings

SECTIONS: dict[str, Any] = {
    "job": "scores", "source": {"type": "delta", "table": "features"}, "model": {"uri": "models:/m@a"}, "keys": ["id"],
    "sinks": [{"type": "delta", "table": "scores"}],
}  # fmt: skip
FULL: dict[str, Any] = {
    "predictions": {"p": {"class": 1, "threshold": 0.5}, "q": 2},
    "features": {"rename": {"a": "b"}, "match": "case_insensitive", "nulls": "quarantine", "tensor": ["a"],
                 "cast": {"a": "double"}},
    "checks": {"features": "f.yaml", "scores": "s.yaml", "strict": True, "drift": {"psi": 0.5, "action": "block"},
               "quarantine": {"table": "aside", "max_fraction": 0.5, "max_rows": 7}},
}  # fmt: skip


def job(**sections: Any) -> config.Job:
    return config.Job.model_validate_json(json.dumps({**SECTIONS, **sections}))


def test_settings_are_those_of_published_fingerprints():
    """As commit 82ff814 has them: a difference makes every published slice be scored again."""
    plain, full = settings(job()), settings(job(**FULL))
    assert json.loads(json.dumps({k: plain[k] for k in ("predictions", "features", "checks")})) == {
        "predictions": None,
        "features": {"rename": {}, "match": "exact", "nulls": "model", "tensor": []},
        "checks": {"drift": None, "quarantine": {"table": None, "max_fraction": 0.01, "max_rows": None}},
    }
    assert json.loads(json.dumps({k: full[k] for k in ("predictions", "features", "checks")})) == {
        "predictions": {
            "p": {"output": None, "class": 1, "threshold": 0.5},
            "q": {"output": 2, "class": None, "threshold": None},
        },
        "features": FULL["features"],
        "checks": {key: value for key, value in FULL["checks"].items() if key not in ("features", "scores")},
    }


class Features(config.Features):
    later: int = 1


class Quarantine(config.Quarantine):
    later: tuple[str, ...] = ()


class Drift(config.Drift):
    later: str | None = None


@pytest.mark.parametrize("sections", [{}, FULL])
def test_a_setting_that_is_added_with_a_default_changes_no_fingerprint(sections):
    now = job(**sections)
    added: dict[str, Any] = {"quarantine": Quarantine(**dict(now.checks.quarantine))}
    if now.checks.drift:
        added["drift"] = Drift(**dict(now.checks.drift))
    later = now.model_copy(
        update={"features": Features(**dict(now.features)), "checks": now.checks.model_copy(update=added)}
    )
    assert settings(later) == settings(now)
    other = later.model_copy(update={"features": Features(**dict(now.features), later=2)})
    assert settings(other) != settings(now)
