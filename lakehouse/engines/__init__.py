"""Engines run a worker over units; each module here is one way of doing so."""
