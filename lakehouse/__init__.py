"""Batch scoring for the lakehouse: features in, one atomic commit of scored rows out.

Executors import this package, so nothing heavy is imported here.
"""

__version__ = "0.1.0"
