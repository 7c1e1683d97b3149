"""Athena: a Delta table on S3 is read as an external table; views can't hold moments with a time zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from lakehouse.errors import ConfigError
from lakehouse.views.sql.dialects import Statement, literal, no_properties, no_rise, unchanged, unnested

NAME = "athena"
CATALOG = False
ZONES = False

column = unchanged
properties = no_properties
rise = no_rise


def cased(name: str) -> str:
    """Names are in lower case."""
    return name.lower()


def reading(name: str, uris: Mapping[str, str]) -> tuple[Mapping[str, exp.Table], Mapping[str, Sequence[Statement]]]:
    """An external table each. Raises ConfigError for storage other than S3."""
    tables = {suffix: exp.table_(name + suffix, quoted=True) for suffix in uris}
    return tables, {suffix: [_external(name + suffix, uri)] for suffix, uri in uris.items()}


def exploded(array: exp.Expr, fields: Sequence[str]) -> tuple[exp.Join, Sequence[exp.Expr]]:
    """UNNEST makes columns of a struct's fields."""
    return unnested(array, fields), [exp.column(name, table="r", quoted=True) for name in fields]


def _external(name: str, uri: str) -> Statement:
    if not uri.startswith("s3://"):
        raise ConfigError(
            f"{uri}: Athena reads tables on S3 only: scored table, quarantine and state have to lie at s3://bucket/folder"
        )
    sql = f"CREATE EXTERNAL TABLE IF NOT EXISTS `{name}`\nLOCATION {literal(uri + '/', NAME)}\n"
    return Statement("", sql + "TBLPROPERTIES ('table_type' = 'DELTA')")
