"""The page at `/`: what is served, in words, and a form to try it. It fetches nothing from elsewhere."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}


def html(openapi: Mapping[str, Any]) -> bytes:
    """The page. Where keys are needed it names only the jobs, and asks for a key."""
    jobs = [path.split("/")[2] for path in openapi["paths"] if path.endswith("/score")]
    guarded = bool(openapi["security"])
    examples = {
        path.split("/")[2]: json.dumps(said["post"]["requestBody"]["content"]["application/json"]["example"], indent=1)
        for path, said in openapi["paths"].items()
        if path.endswith("/score")
    }
    return bytes(_template().render(jobs=jobs, guarded=guarded, examples={} if guarded else examples), "utf-8")


@functools.cache
def _template() -> Any:
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
