"""The command line: commands and what `init` drafts. What people read of a run is written by `views`."""

from lakehouse.cli.commands import app, main

__all__ = ["app", "main"]
