"""Spark: a Delta table is named by its folder, or as Spark's catalog names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from lakehouse.connectors.spark import is_catalog_name
from lakehouse.views.sql.dialects import Statement, structs

NAME = "spark"
CATALOG = True
ZONES = True

exploded = structs


def cased(name: str) -> str:
    """Names stay as they are."""
    return name


def column(name: str) -> str:
    """Names stay as they are."""
    return name


def reading(name: str, uris: Mapping[str, str]) -> tuple[Mapping[str, exp.Table], Mapping[str, Sequence[Statement]]]:
    """Nothing is needed before."""
    tables = {s: exp.to_table(uri, NAME) if is_catalog_name(uri) else _folder(uri) for s, uri in uris.items()}
    return tables, {suffix: [] for suffix in uris}


def properties(*, named: bool) -> Sequence[exp.Expr]:
    """A catalog's view can't be over a folder: it is the session's own then."""
    return [] if named else [exp.TemporaryProperty()]


def rise(now: exp.Expr, before: exp.Expr) -> exp.Expr | None:
    """What is subtracted has to be a number."""
    return None


def _folder(uri: str) -> exp.Table:
    path = f"s3a://{uri[5:]}" if uri.startswith("s3://") else uri
    return exp.table_(path, db="delta", quoted=True)
