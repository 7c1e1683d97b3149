"""The one function that scores, and the worker around it that stages files. Executors import this: nothing heavy here.

Which columns, types and rules there are is decided in `planning`; nothing here reads a source or commits to a table.
"""
