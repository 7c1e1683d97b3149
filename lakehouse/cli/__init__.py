"""The command line: a module a group of commands, listed in `commands`; `command` runs each of them.

A command reads its options, calls one function of the package and says how it ended. What people read of a run is
written by `views`.
"""

from lakehouse.cli.commands import app, main

__all__ = ["app", "main"]
