"""Snowflake: a Delta table on object storage is read as an Iceberg table, over an external volume."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from lakehouse.connectors.snowflake.names import fold, quote, text_literal
from lakehouse.errors import ConfigError
from lakehouse.views.sql.dialects import Statement

NAME = "snowflake"
CATALOG = False
ZONES = True

_ROLE, _TENANT = "<ARN of the role that may read the bucket>", "<id of the tenant>"


def cased(name: str) -> str:
    """Names are in upper case."""
    return name.upper()


def column(name: str) -> str:
    """Plain names are in upper case."""
    return fold(name)


def reading(name: str, uris: Mapping[str, str]) -> tuple[Mapping[str, exp.Table], Mapping[str, Sequence[Statement]]]:
    """An Iceberg table each. Raises ConfigError for storage that Snowflake can't read."""
    names = {suffix: name + cased(suffix) for suffix in uris}
    found, catalog = _volumes(name, [*uris.values()]), f"{name}_CATALOG"
    read = {suffix: _iceberg(names[suffix], *found[uri], catalog) for suffix, uri in uris.items()}
    made = [volume.created() for volume in dict.fromkeys(volume for volume, _ in found.values())]
    tables = {suffix: exp.table_(n, quoted=True) for suffix, n in names.items()}
    return tables, read | {"": [*made, _integration(catalog), *read[""]]}


def properties(*, named: bool) -> Sequence[exp.Expr]:
    """A view that is replaced would lose its grants."""
    return [exp.CopyGrantsProperty()]


def rise(now: exp.Expr, before: exp.Expr) -> exp.Expr | None:
    """AS_DOUBLE is null for what is no number."""
    new, old = (exp.func("AS_DOUBLE", exp.func("TO_VARIANT", value)) for value in (now, before))
    return exp.Sub(this=new, expression=old)


def exploded(array: exp.Expr, fields: Sequence[str]) -> tuple[exp.Join, Sequence[exp.Expr]]:
    """FLATTEN takes an ARRAY of any kind; in Iceberg tables it has a type of its own."""
    flat = exp.Explode(this=exp.Kwarg(this=exp.var("INPUT"), expression=exp.cast(array, exp.DType.ARRAY)))
    join = exp.Join(this=exp.Lateral(this=flat, alias=exp.TableAlias(this=exp.to_identifier("r", quoted=True))))
    value = exp.column("VALUE", table="r", quoted=True)
    paths = (exp.func("GET_PATH", value.copy(), exp.Literal.string(name)) for name in fields)
    return join, [exp.cast(path, exp.DType.VARCHAR) for path in paths]


@dataclass(frozen=True)
class _Volume:
    """A folder of object storage that Snowflake may read. `base` ends with a slash."""

    name: str
    base: str

    def created(self) -> Statement:
        """The statement, with placeholders for what only the account knows."""
        provider = {"s3": "S3", "gcs": "GCS", "azure": "AZURE"}[self.base.split(":")[0]]
        needs = {
            "S3": f"STORAGE_AWS_ROLE_ARN = {text_literal(_ROLE)}",
            "AZURE": f"AZURE_TENANT_ID = {text_literal(_TENANT)}",
        }
        lines = ["NAME = 'lake'", f"STORAGE_PROVIDER = '{provider}'", f"STORAGE_BASE_URL = {text_literal(self.base)}"]
        lines += [needs[provider]] if provider in needs else []
        inside = "\n".join(f"    {line}" for line in lines)
        sql = f"CREATE EXTERNAL VOLUME IF NOT EXISTS {quote(self.name)}\n  STORAGE_LOCATIONS = ((\n{inside}\n  ))\n"
        fill = f"Put in what stands in <...>. DESC EXTERNAL VOLUME {quote(self.name)} then says whom to let in"
        return Statement(f"Needs CREATE EXTERNAL VOLUME. {fill}", sql + "  ALLOW_WRITES = FALSE")


def _bucket(uri: str) -> tuple[str, str]:
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
    raise ConfigError(
        f"{uri}: Snowflake reads tables on S3, Google Cloud Storage and Azure only: keep it there, or "
        "add a sink of type snowflake"
    )


def _volumes(name: str, uris: Sequence[str]) -> Mapping[str, tuple[_Volume, str]]:
    """For each table its volume, one a bucket and no wider than need be, and its folder in it."""
    folders: dict[str, list[str]] = {}
    for uri in uris:
        bucket, folder = _bucket(uri)
        folders.setdefault(bucket, []).append(posixpath.dirname(folder))
    shared = {bucket: posixpath.commonpath(inside) for bucket, inside in folders.items()}
    made = {
        bucket: _Volume(f"{name}_VOLUME{number or ''}", "/".join(filter(None, (bucket, shared[bucket]))) + "/")
        for number, bucket in enumerate(shared)
    }
    found = {}
    for uri in uris:
        bucket, folder = _bucket(uri)
        found[uri] = made[bucket], posixpath.relpath(folder, shared[bucket] or ".") + "/"
    return found


def _integration(name: str) -> Statement:
    sql = f"CREATE CATALOG INTEGRATION IF NOT EXISTS {quote(name)}\n  CATALOG_SOURCE = OBJECT_STORE\n"
    return Statement("Needs CREATE INTEGRATION", sql + "  TABLE_FORMAT = DELTA\n  ENABLED = TRUE")


def _iceberg(name: str, volume: _Volume, folder: str, catalog: str) -> list[Statement]:
    """An Iceberg table of this name over the Delta table."""
    sql = f"CREATE ICEBERG TABLE IF NOT EXISTS {quote(name)}\n  EXTERNAL_VOLUME = {text_literal(volume.name)}\n"
    sql += f"  CATALOG = {text_literal(catalog)}\n  BASE_LOCATION = {text_literal(folder)}\n  AUTO_REFRESH = TRUE"
    gone = "Once the folder is made anew the table is another one: DROP it and create it again"
    return [
        Statement(f"Reads the Delta table where it lies. {gone}", sql),
        Statement(
            "It shows the commits that it was refreshed with: by itself soon after, or at once by",
            f"ALTER ICEBERG TABLE {quote(name)} REFRESH",
        ),
    ]
