"""Batch scoring for the lakehouse: features in, one atomic commit of scored rows out.

Executors import this package, so nothing heavy is imported here.
"""

from typing import TYPE_CHECKING

from lakehouse import deferred

if TYPE_CHECKING:
    from lakehouse.api import preview, read_snowflake, score

__all__ = ["__version__", "preview", "read_snowflake", "score"]
__version__ = "0.1.0"

# What people call is imported when it is first asked for.
__getattr__ = deferred.names_of(__name__, {"api": "preview read_snowflake score"})
