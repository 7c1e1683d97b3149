"""Receipts: what a score stands on, looked up and made again, for one row or for a whole run."""
