"""Everything that is decided before the first task: the plan, the sample that is tried, the carrier, the tables.

Nothing here scores or commits. What is decided is handed on as values: to workers as `Staging`, to the end of a run as
a `Plan`.
"""
