"""One client a system: Delta tables, Parquet files, Snowflake, the Spark session; and the digest of rows, alike in any.

Nothing here knows of jobs or runs: what is done with a system for a run is in `sources` and `sinks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec


@contextmanager
def reuse_sessions(systems: Iterable[str], tag: str) -> Iterator[None]:
    """Keep sessions with these systems open until the block ends, named `tag` where the system shows names.

    Systems that are used without a session, or without a client of their own, need nothing.
    """
    with ExitStack() as stack:
        for system in sorted(set(systems)):
            if find_spec(f"{__name__}.{system}") is not None:
                reuse = getattr(import_module(f"{__name__}.{system}"), "reuse_sessions", None)
                if reuse is not None:
                    stack.enter_context(reuse(tag))
        yield
