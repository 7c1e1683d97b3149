"""What a Spark session must have to read and write tables itself, and what is said, in one line, where it hasn't."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ConfigError
from lakehouse.storage import Location

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_NO_STORAGE = re.compile(r"No FileSystem for scheme|Class org\.apache\.hadoop\.fs\.\S+ not found")
_NO_DELTA = ("DATA_SOURCE_NOT_FOUND", "ClassNotFound", "NoClassDefFound", "catalog plugin class")

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*){1,2}")


def missing_support(error: Exception, why: str, at: Location | None = None) -> ConfigError | None:
    """What a session lacks by what it says, and how it gets that; None where something else is wrong.

    `why` says what needs it; `at`: where the table lies.
    """
    text = str(error)
    if at is not None and at.remote and _NO_STORAGE.search(text):
        return ConfigError(
            f"{why}, and this Spark has no file system for {at.system}: "
            f'add --jars "$(lakehouse jars {at.jars_option})" to spark-submit'
        )
    if any(sign in text for sign in _NO_DELTA):
        return ConfigError(
            f"{why}, and this Spark has no Delta: add "
            '--jars "$(lakehouse jars)" or --packages with the delta-spark package to spark-submit'
        )
    if "DELTA_CONFIGURE_SPARK_SESSION" in text:
        return ConfigError(
            f"{why}, and this session was opened without Delta's extension: "
            "set spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension and "
            "spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog when it is created"
        )
    return None


def require_delta(spark: SparkSession, table: Location, why: str) -> None:
    """Raise ConfigError where the session can't open this table, which is there, as Delta. Starts no task."""
    try:
        spark.read.format("delta").options(**table.hadoop_options()).load(table.hadoop_uri).schema  # noqa: B018
    except Exception as error:
        refusal = missing_support(error, why, table)
        if refusal is None:
            raise
        raise refusal from error


def is_catalog_name(table: str) -> bool:
    """Whether a table is named as a catalog does: two or three identifiers with dots, and no such path is there."""
    return _NAME.fullmatch(table) is not None and not os.path.exists(table)


def may_have_delta(given: Any) -> bool:
    """Whether a submitted session may find Delta's classes: told of an extension that it can't load, Spark warns of it
    with its whole stack, and goes on without.
    """
    named = [given.get(key, "") for key in ("spark.jars", "spark.jars.packages")]
    elsewhere = given.get("spark.driver.extraClassPath", "") or os.environ.get("SPARK_DIST_CLASSPATH", "")
    home = Path(os.environ.get("SPARK_HOME", "")) / "jars"
    return bool(elsewhere) or any("delta" in text for text in named) or any(home.glob("delta-spark*.jar"))


def quote(name: str) -> str:
    """An identifier in SQL, exactly as given."""
    return "`" + name.replace("`", "``") + "`"


def quote_name(table: str) -> str:
    """A catalog's name of a table or schema in SQL, each part quoted."""
    return ".".join(map(quote, table.split(".")))


def text_literal(value: str) -> str:
    """A string literal in SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextmanager
def with_settings(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """These settings while the block runs, and what was there before afterwards."""
    before = {key: spark.conf.get(key, None) for key in settings}
    for key, value in settings.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, old in before.items():
            if old is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, old)
