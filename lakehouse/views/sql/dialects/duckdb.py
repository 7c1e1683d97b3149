"""DuckDB: a Delta table is read by a view over it, which the extension `delta` makes possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from sqlglot import exp

from lakehouse.views.sql.dialects import Statement, literal, no_properties, no_rise, structs, unchanged

NAME = "duckdb"
CATALOG = False
ZONES = True

cased = column = unchanged
properties = no_properties
rise = no_rise
exploded = structs


def reading(name: str, uris: Mapping[str, str]) -> tuple[Mapping[str, exp.Table], Mapping[str, Sequence[Statement]]]:
    """A view over each table, and the extension before the first one."""
    tables = {suffix: exp.table_(name + suffix, quoted=True) for suffix in uris}
    read = {suffix: [_view(tables[suffix], uri)] for suffix, uri in uris.items()}
    return tables, read | {"": [*_extension([*uris.values()]), *read[""]]}


def _view(table: exp.Table, uri: str) -> Statement:
    named = table.sql(NAME)
    return Statement("", f"CREATE OR REPLACE VIEW {named} AS\nSELECT * FROM DELTA_SCAN({literal(uri, NAME)})")


def _extension(uris: Sequence[str]) -> list[Statement]:
    kinds = {"s3": "s3", "gs": "gcs", "abfss": "azure"}
    schemes = dict.fromkeys(urlsplit(uri).scheme for uri in uris)
    secrets = [f"CREATE SECRET (TYPE {kinds[s]}, PROVIDER credential_chain)" for s in schemes if s in kinds]
    about = "".join(f"\nCredentials, where there are none yet: {secret}" for secret in secrets)
    return [Statement("The extension is fetched once" + about, "INSTALL delta"), Statement("", "LOAD delta")]
