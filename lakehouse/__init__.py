"""Batch scoring for the lakehouse: features in, one atomic commit of scored rows out.

Executors import this package, so nothing heavy is imported here.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.api import preview, read_snowflake, score

__all__ = ["__version__", "preview", "read_snowflake", "score"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What people call is imported when it is first asked for."""
    if name in ("preview", "read_snowflake", "score"):
        from lakehouse import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
