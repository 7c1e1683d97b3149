"""Batch scoring for the lakehouse: features in, one atomic commit of scored rows out.

Executors import this package, so nothing heavy is imported here.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.api import read_snowflake

__all__ = ["__version__", "read_snowflake"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What people call is imported when it is first asked for."""
    if name == "read_snowflake":
        from lakehouse.api import read_snowflake

        return read_snowflake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
