"""How each dialect reads Delta tables where they lie: the statements for it, and the names that they get."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlglot import exp

from lakehouse.connectors.snowflake import quoted, text
from lakehouse.errors import ConfigError
from lakehouse.planning.catalog import is_name
from lakehouse.storage import locate

ROLE, TENANT = "<ARN of the role that may read the bucket>", "<id of the tenant>"
_AMAZON = ("s3", "s3a", "s3n")


@dataclass(frozen=True)
class Statement:
    """A statement without its semicolon, and what to say before it. An example is printed as a comment."""

    about: str
    sql: str
    example: bool = False


def uri_of(table: str) -> str:
    """A table's URI as `locate` gives it, without asking S3 for the bucket's region."""
    scheme, _, rest = table.partition("://")
    return f"s3://{rest.strip('/')}" if scheme in _AMAZON else locate(table).uri


def plain(uri: str) -> str:
    """The last part of a table's URI as a name that every system takes."""
    return re.sub(r"\W", "_", uri.rstrip("/").rsplit("/", 1)[-1], flags=re.ASCII)


def literal(value: str, dialect: str) -> str:
    return exp.Literal.string(value).sql(dialect)


def in_spark(uri: str) -> exp.Table:
    """The table as Spark names a folder."""
    path = f"s3a://{uri[5:]}" if uri.startswith("s3://") else uri
    return exp.table_(path, db="delta", quoted=True)


def in_duckdb(name: str, uri: str) -> list[Statement]:
    """A view over the table, of this name."""
    sql = f"CREATE OR REPLACE VIEW {quoted(name)} AS\nSELECT * FROM DELTA_SCAN({literal(uri, 'duckdb')})"
    return [Statement("", sql)]


def duckdb_needs(uris: Sequence[str]) -> list[Statement]:
    """What has to be there before the first view."""
    kinds = {"s3": "s3", "gs": "gcs", "abfss": "azure"}
    schemes = dict.fromkeys(urlsplit(uri).scheme for uri in uris)
    secrets = [f"CREATE SECRET (TYPE {kinds[s]}, PROVIDER credential_chain)" for s in schemes if s in kinds]
    about = "".join(f"\nCredentials, where there are none yet: {secret}" for secret in secrets)
    return [Statement("The extension is fetched once" + about, "INSTALL delta"), Statement("", "LOAD delta")]


def in_athena(name: str, uri: str) -> list[Statement]:
    """An external table of this name. Raises ConfigError for storage that Athena can't read."""
    if not uri.startswith("s3://"):
        raise ConfigError(
            f"{uri}: Athena reads tables on S3 only: scored table, quarantine and state have to lie at s3://bucket/folder"
        )
    sql = f"CREATE EXTERNAL TABLE IF NOT EXISTS `{name}`\nLOCATION {literal(uri + '/', 'athena')}\n"
    return [Statement("", sql + "TBLPROPERTIES ('table_type' = 'DELTA')")]


@dataclass(frozen=True)
class Volume:
    """A folder of object storage that Snowflake may read. `base` ends with a slash."""

    name: str
    base: str

    def created(self) -> Statement:
        """The statement, with placeholders for what only the account knows."""
        provider = {"s3": "S3", "gcs": "GCS", "azure": "AZURE"}[self.base.split(":")[0]]
        needs = {"S3": f"STORAGE_AWS_ROLE_ARN = {text(ROLE)}", "AZURE": f"AZURE_TENANT_ID = {text(TENANT)}"}
        lines = ["NAME = 'lake'", f"STORAGE_PROVIDER = '{provider}'", f"STORAGE_BASE_URL = {text(self.base)}"]
        lines += [needs[provider]] if provider in needs else []
        inside = "\n".join(f"    {line}" for line in lines)
        sql = f"CREATE EXTERNAL VOLUME IF NOT EXISTS {quoted(self.name)}\n  STORAGE_LOCATIONS = ((\n{inside}\n  ))\n"
        fill = f"Put in what stands in <...>. DESC EXTERNAL VOLUME {quoted(self.name)} then says whom to let in"
        return Statement(f"Needs CREATE EXTERNAL VOLUME. {fill}", sql + "  ALLOW_WRITES = FALSE")


def _for_snowflake(uri: str) -> tuple[str, str]:
    """A bucket as Snowflake writes it, and the folder in it. Raises ConfigError for storage that it can't read."""
    scheme, _, rest = uri.partition("://")
    bucket, _, folder = rest.partition("/")
    if scheme == "s3":
        return f"s3://{bucket}", folder
    if scheme == "gs":
        return f"gcs://{bucket}", folder
    if scheme == "abfss":
        container, _, host = bucket.partition("@")
        return f"azure://{host.replace('.dfs.', '.blob.')}/{container}", folder
    raise ConfigError(f"{uri}: Snowflake reads tables on S3, Google Cloud Storage and Azure only: keep it there, or "
                      "add a sink of type snowflake")  # fmt: skip


def volumes(name: str, uris: Sequence[str]) -> Mapping[str, tuple[Volume, str]]:
    """For each table its volume, one a bucket and no wider than need be, and its folder in it."""
    folders: dict[str, list[str]] = {}
    for uri in uris:
        bucket, folder = _for_snowflake(uri)
        folders.setdefault(bucket, []).append(posixpath.dirname(folder))
    shared = {bucket: posixpath.commonpath(inside) for bucket, inside in folders.items()}
    made = {
        bucket: Volume(f"{name}_VOLUME{number or ''}", "/".join(filter(None, (bucket, shared[bucket]))) + "/")
        for number, bucket in enumerate(shared)
    }
    found = {}
    for uri in uris:
        bucket, folder = _for_snowflake(uri)
        found[uri] = made[bucket], posixpath.relpath(folder, shared[bucket] or ".") + "/"
    return found


def integration(name: str) -> Statement:
    sql = f"CREATE CATALOG INTEGRATION IF NOT EXISTS {quoted(name)}\n  CATALOG_SOURCE = OBJECT_STORE\n"
    return Statement("Needs CREATE INTEGRATION", sql + "  TABLE_FORMAT = DELTA\n  ENABLED = TRUE")


def in_snowflake(name: str, volume: Volume, folder: str, catalog: str) -> list[Statement]:
    """An Iceberg table of this name over the Delta table."""
    sql = f"CREATE ICEBERG TABLE IF NOT EXISTS {quoted(name)}\n  EXTERNAL_VOLUME = {text(volume.name)}\n"
    sql += f"  CATALOG = {text(catalog)}\n  BASE_LOCATION = {text(folder)}\n  AUTO_REFRESH = TRUE"
    gone = "Once the folder is made anew the table is another one: DROP it and create it again"
    return [
        Statement(f"Reads the Delta table where it lies. {gone}", sql),
        Statement("It shows the commits that it was refreshed with: by itself soon after, or at once by",
                  f"ALTER ICEBERG TABLE {quoted(name)} REFRESH"),
    ]  # fmt: skip


def ways(name: str, uris: Mapping[str, str], dialect: str) -> tuple[dict[str, exp.Table], dict[str, list[Statement]]]:
    """By suffix the tables as the dialect names them, and the statements that each needs before.

    Raises ConfigError where the dialect can't read one of them.
    """
    if dialect == "spark":
        named = {s: exp.to_table(u, "spark") if is_name(u) else in_spark(u) for s, u in uris.items()}
        return named, {suffix: [] for suffix in uris}
    names = {s: name + (s.upper() if dialect == "snowflake" else s) for s in uris}
    tables = {suffix: exp.table_(n, quoted=True) for suffix, n in names.items()}
    if dialect == "duckdb":
        read = {suffix: in_duckdb(names[suffix], uri) for suffix, uri in uris.items()}
        return tables, read | {"": duckdb_needs([*uris.values()]) + read[""]}
    if dialect == "athena":
        return tables, {suffix: in_athena(names[suffix], uri) for suffix, uri in uris.items()}
    found, catalog = volumes(name, [*uris.values()]), f"{name}_CATALOG"
    read = {s: in_snowflake(names[s], *found[u], catalog) for s, u in uris.items()}
    made = [volume.created() for volume in dict.fromkeys(volume for volume, _ in found.values())]
    return tables, read | {"": [*made, integration(catalog), *read[""]]}
