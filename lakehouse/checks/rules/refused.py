"""Why an expectation isn't compiled: it is wrong, or only Great Expectations can run it."""

from __future__ import annotations


class InvalidExpectation(Exception):
    """The expectation is wrong; the message says which argument, and what is allowed."""


class NeedsGX(Exception):
    """The expectation is fine, but its answer could differ here, so that Great Expectations has to run it."""
