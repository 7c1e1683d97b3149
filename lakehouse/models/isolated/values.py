"""A model's answer as plain structure and buffers, column by column, and back again: the same, bit for bit.

NumPy arrays of any type and rank, masked and sparse ones, pandas' frames, series, categories and nullable types, Arrow
arrays, dates, decimals, and lists, tuples and mappings of them all. What is none of these is refused in words.
"""

from __future__ import annotations

from typing import Any

from lakehouse.models.isolated import nodes
from lakehouse.models.isolated.nodes import Buffers, Node, NotCarried

__all__ = ["NotCarried", "decode", "encode"]


def encode(value: Any) -> tuple[Node, Buffers]:
    """A value as a node of a message's head and its buffers. Raises NotCarried."""
    buffers: Buffers = []
    return nodes.write([value], buffers), buffers


def decode(node: Node, buffers: Buffers) -> Any:
    """The value that `encode` was given."""
    (value,) = nodes.read(node, buffers)
    return value
