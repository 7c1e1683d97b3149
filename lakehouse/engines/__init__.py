"""Engines run a worker over units; each module here is one way of doing so, or what it needs of the machine.

`spark` and `local` are the engines; `runtime` finds Java and jars, `catalog` asks Spark's catalog where tables lie.
The worker itself is in `scoring`, and which engine reads which input is decided in `planning`.
"""
