"""The lower 64 bits of MD5 of many texts at once: numpy works through a step of the algorithm for all of them.

Source: RFC 1321. MD5 is a checksum here: it tells rows apart, and keeps no secret.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint32]
Hashes = NDArray[np.uint64]

BLOCK = 64
_FEW = 1000
"""Texts of one length in blocks for which hashlib, one by one, is faster."""
_LONG = 32
"""Blocks of a text from which on hashlib is faster, and memory for padding is a matter."""
_SHIFTS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
_WORDS = ((1, 0), (5, 1), (3, 5), (7, 0))
_CONSTANTS = tuple(np.uint32(int(abs(math.sin(i + 1)) * 2**32)) for i in range(64))
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)


def of_texts(texts: pa.Array) -> Hashes:
    """For each text, which is not null, the last 8 bytes of MD5 of its UTF-8 bytes as a big-endian number.

    It is Snowflake's MD5_NUMBER_LOWER64.
    """
    lengths = pc.binary_length(texts).to_numpy().astype(np.int64)
    blocks = (lengths + 8) // BLOCK + 1
    hashes = np.empty(len(texts), np.uint64)
    for count in np.unique(blocks):
        chosen = np.flatnonzero(blocks == count)
        whole = len(chosen) == len(texts)
        some = texts if whole else texts.take(pa.array(chosen))
        if len(chosen) < _FEW or count > _LONG:
            hashes[chosen] = _one_by_one(some)
        else:
            hashes[chosen] = _of_rows(_spread(some, int(count)), lengths[chosen])
    return hashes


def of_rows(rows: Bytes) -> Hashes:
    """The same for each row of a matrix of bytes."""
    many, length = rows.shape
    if many < _FEW:
        return _one_by_one(pa.array([row.tobytes() for row in rows], pa.binary()))
    padded = np.zeros((many, ((length + 8) // BLOCK + 1) * BLOCK), np.uint8)
    padded[:, :length] = rows
    return _of_rows(padded, np.full(many, length))


def _one_by_one(texts: pa.Array) -> Hashes:
    values = texts.cast(pa.large_binary()).to_pylist()
    digests = b"".join([hashlib.md5(value, usedforsecurity=False).digest() for value in values])
    return np.frombuffer(digests, ">u8")[1::2].astype(np.uint64)


def _spread(texts: pa.Array, blocks: int) -> Bytes:
    """A matrix with a text a row, followed by zeros."""
    width = blocks * BLOCK
    padded = pc.ascii_rpad(texts.cast(pa.large_string()), width, "\0")  # it counts bytes
    start = padded.offset * width
    content = np.frombuffer(padded.buffers()[2], np.uint8)[start : start + len(texts) * width]
    return content.reshape(len(texts), width).copy()


def _of_rows(padded: Bytes, lengths: NDArray[np.int64]) -> Hashes:
    """MD5 of rows that are followed by zeros up to whole blocks."""
    padded[np.arange(len(padded)), lengths] = 0x80
    padded.view("<u8")[:, -1] = lengths * 8
    words = np.ascontiguousarray(padded.view("<u4").T, np.uint32)
    state = [np.full(len(padded), value, np.uint32) for value in _START]
    for first in range(0, len(words), 16):
        state = _with_block(state, words[first : first + 16])
    c, d = (part.byteswap().astype(np.uint64) for part in state[2:])
    return c << np.uint64(32) | d


def _with_block(state: list[Words], words: Words) -> list[Words]:
    """The state after one more block of 16 words."""
    a, b, c, d = (part.copy() for part in state)
    mixed, carried = np.empty_like(a), np.empty_like(a)
    for i, constant in enumerate(_CONSTANTS):
        kind = i // 16
        _mix(kind, b, c, d, mixed)
        factor, offset = _WORDS[kind]
        mixed += a
        mixed += constant
        mixed += words[(factor * i + offset) % 16]
        shift = _SHIFTS[kind][i % 4]
        np.left_shift(mixed, np.uint32(shift), out=carried)
        mixed >>= np.uint32(32 - shift)
        mixed |= carried
        mixed += b
        a, d, c, b, mixed = d, c, b, mixed, a  # what was `a` is free for the next step
    return [before + after for before, after in zip(state, (a, b, c, d), strict=True)]


def _mix(kind: int, b: Words, c: Words, d: Words, out: Words) -> None:
    """The functions F, G, H and I of the RFC, F and G in the form with one operation less."""
    if kind == 0:
        np.bitwise_xor(c, d, out=out)
        out &= b
        out ^= d
    elif kind == 1:
        np.bitwise_xor(b, c, out=out)
        out &= d
        out ^= c
    elif kind == 2:
        np.bitwise_xor(b, c, out=out)
        out ^= d
    else:
        np.invert(d, out=out)
        out |= b
        out ^= c
