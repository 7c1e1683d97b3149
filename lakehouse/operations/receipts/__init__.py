"""Receipts: what a score stands on, looked up and made again, for one row or for a whole run.

Nothing here writes to a table. How a row is scored is in `scoring`; what a run left on record is in `runs`.
"""
