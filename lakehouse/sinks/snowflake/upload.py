"""Staged files to a stage in Snowflake: by Spark's executors where there is a session, else by threads here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import Session, Table, text_literal
from lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.sinks.target import Target
    from lakehouse.storage import Location

MOST_SESSIONS = 8
"""Sessions that upload at once, on executors or here."""


@dataclass(frozen=True)
class Share:
    """Some of a run's files, for one session to upload."""

    stage: Table
    run: str
    files: tuple[Location, ...]


def upload(session: Session, stage: Table, run: str, target: Target, spark: SparkSession | None) -> None:
    """Upload all files of a target. An upload again writes the same bytes under the same name."""
    files = [target.root.join(f.path) for f in sorted(target.files, key=lambda f: -f.size)]
    if len(files) < 2:
        put(session, Share(stage, run, tuple(files)))
        return
    many = min(MOST_SESSIONS, len(files))
    shares = [Share(stage, run, tuple(files[i::many])) for i in range(many)]
    if spark is not None:
        from lakehouse.engines import spark as engine

        shares = engine.run_each(spark, put_share, shares)
    with ThreadPoolExecutor(many) as pool:
        for _ in pool.map(_put_here, shares):
            pass


def _put_here(share: Share) -> None:
    with snowflake.session(share.stage.connection, f"lakehouse run={share.run}") as session:
        put(session, share)


def put_share(share: Share) -> bool:
    """Upload a share where an executor runs; False where it can't, so that the driver must."""
    try:
        _put_here(share)
    except (LakehouseError, ImportError):
        return False
    return True


def put(session: Session, share: Share) -> None:
    """Upload files as they are, under their own names, unpacked and unchanged."""
    for file in share.files:
        with file.filesystem().open_input_file(file.path) as stream:
            name = file.path.rsplit("/", 1)[-1]
            session.put(
                f"PUT {text_literal('file:///' + name)} {share.stage.stage_path(share.run)} "
                "AUTO_COMPRESS = FALSE SOURCE_COMPRESSION = NONE OVERWRITE = TRUE",
                stream,
            )
