"""Spark: a Delta table is named by its folder, or as Spark's catalog names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from lakehouse.connectors.spark import is_catalog_name
from lakehouse.views.sql.dialects import Statement, no_rise, structs, unchanged

NAME = "spark"
CATALOG = True
ZONES = True

cased = column = unchanged
rise = no_rise
exploded = structs


def reading(name: str, uris: Mapping[str, str]) -> tuple[Mapping[str, exp.Table], Mapping[str, Sequence[Statement]]]:
    """Nothing is needed before."""
    tables = {s: exp.to_table(uri, NAME) if is_catalog_name(uri) else _folder(uri) for s, uri in uris.items()}
    return tables, {suffix: [] for suffix in uris}


def properties(*, named: bool) -> Sequence[exp.Expr]:
    """A catalog's view can't be over a folder: it is the session's own then."""
    return [] if named else [exp.TemporaryProperty()]


def _folder(uri: str) -> exp.Table:
    path = f"s3a://{uri[5:]}" if uri.startswith("s3://") else uri
    return exp.table_(path, db="delta", quoted=True)
