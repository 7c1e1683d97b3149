"""Which rows of a file are deleted, as a deletion vector says, in little memory."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LiveRows:
    """The rows of a file that are not deleted, which are so many: a bit a row, packed and deflated.

    A million rows take 125 kB as bits; deflated about two bytes a row that is deleted, and never more than the bits.
    """

    deflated: bytes
    rows: int
    live: int

    def mask(self) -> np.ndarray[Any, Any]:
        """True a row that is not deleted (bool), of all rows of the file."""
        packed = np.frombuffer(zlib.decompress(self.deflated), np.uint8)
        return np.unpackbits(packed, count=self.rows).astype(bool)


def pack(mask: np.ndarray[Any, Any]) -> LiveRows:
    """What `LiveRows.mask` gives back."""
    return LiveRows(zlib.compress(np.packbits(mask).tobytes(), 1), len(mask), int(np.count_nonzero(mask)))
