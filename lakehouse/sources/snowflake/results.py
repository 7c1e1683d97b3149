"""What a query gave, and its batches, which workers fetch by themselves."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake.types import cast_rows
from lakehouse.errors import ConfigError, Unavailable


@dataclass(frozen=True)
class QueryResult:
    """A query that was run: its id, the server's time before it in ms since 1970, its pickled batches and their rows.

    `cut`: there may be more rows than were asked for.
    """

    query_id: str
    at_ms: int
    batches: tuple[bytes, ...]
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    cut: bool = False


@dataclass(frozen=True)
class ChunkUnit:
    """A batch of a result. `batch` is the connector's own, pickled; `number` its place in the result."""

    connection: str
    query_id: str
    number: int
    batch: bytes
    size: int
    schema: pa.Schema
    batch_rows: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows in batches of at most `batch_rows`.

        Raises Unavailable where they can't be fetched, nor the result be asked for again.
        """
        rows = self._fetch()
        for batch in rows.to_batches(max_chunksize=self.batch_rows):
            if batch.num_rows:
                yield cast_rows(batch, self.schema)

    def _fetch(self) -> pa.Table:
        try:
            return snowflake.fetch_rows(pickle.loads(self.batch))
        except ImportError as error:
            raise ConfigError(
                f"a worker has no snowflake-connector-python: install it where workers run ({error})"
            ) from error
        except snowflake.Expired as error:
            try:
                return self._fetch_again()
            except (ConfigError, Unavailable) as why:
                raise Unavailable(
                    f"part {self.number} of query {self.query_id} can't be fetched ({error}), nor be asked for again "
                    f"({why}). A result's URLs live for about 6 hours and the result for a day: run again, in shorter "
                    f"parts, or let workers have the connection {self.connection!r} in their connections.toml"
                ) from error

    def _fetch_again(self) -> pa.Table:
        try:
            return snowflake.fetch_rows(_read_again(self.connection, self.query_id)[self.number])
        except snowflake.Expired:
            _read_again.cache_clear()  # they may be hours old, too
            return snowflake.fetch_rows(_read_again(self.connection, self.query_id)[self.number])


@lru_cache(maxsize=1)
def _read_again(connection: str, query_id: str) -> list[Any]:
    """A result's batches with new URLs, asked for once a process."""
    with snowflake.session(connection, f"lakehouse query={query_id}") as session:
        return session.results(query_id)
