"""Which of many 64-bit hashes differ in few bits, without comparing all with all.

Cut into `distance` + 2 blocks, two hashes that differ in at most `distance` bits agree in two blocks at
least: whoever shares no pair of blocks is no neighbour, and whoever does is compared. Nothing is missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcl_data.shingles import mixed

_BITS = 64
# Groups of this size are compared in step with all others, larger ones each on its own.
_SMALL = 64
_ASKED = 100  # hashes looked up at once: a set may have thousands of blank pictures, and a corpus too
_CELLS = 4_000_000  # comparisons at once: about 50 MB

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.signedinteger[Any]]


def spread(distance: int) -> int:
    """How many keys a hash has."""
    return (distance + 2) * (distance + 1) // 2


def keys(hashes: Hashes, distance: int) -> Hashes:
    """The keys of each hash, shape [n, spread(distance)]: hashes within `distance` share one at least."""
    masks = [_mask(first) | _mask(second) for first, second in combinations(_blocks(distance), 2)]
    salts = mixed(np.arange(len(masks), dtype=np.uint64))
    return mixed((hashes[:, None] & np.array(masks, np.uint64)) ^ salts)


@dataclass(frozen=True, slots=True)
class Index:
    """Hashes that others are looked up among.

    Attributes:
        hashes: one for each entry.
        distance: bits.
        keys: their keys, in ascending order.
        entries: which entry each key is of.
    """

    hashes: Hashes
    distance: int
    keys: Hashes
    entries: Numbers

    def find(self, hashes: Hashes) -> tuple[Numbers, Numbers]:
        """Pairs within `distance`: numbers of `hashes` and of entries, each pair once, in ascending order."""
        starts = range(0, len(hashes), _ASKED)
        parts = [self._find(hashes[start : start + _ASKED]) for start in starts]
        rows = [found // len(self.hashes) + start for start, found in zip(starts, parts, strict=True)]
        empty = [np.empty(0, np.int64)]
        return np.concatenate(empty + rows), np.concatenate(empty + parts) % max(len(self.hashes), 1)

    def _find(self, hashes: Hashes) -> Numbers:
        """The pairs of some hashes, each as row * entries + entry."""
        asked = keys(hashes, self.distance).ravel()
        first = np.searchsorted(self.keys, asked, side="left")
        counts = np.searchsorted(self.keys, asked, side="right") - first
        rows = np.repeat(np.arange(len(asked)) // spread(self.distance), counts)
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        entries = self.entries[np.repeat(first, counts) + within]
        is_near = np.bitwise_count(hashes[rows] ^ self.hashes[entries]) <= self.distance
        return np.unique(rows[is_near] * len(self.hashes) + entries[is_near])


def index(hashes: Hashes, distance: int) -> Index:
    """An index of these hashes: 12 bytes for each of their keys."""
    every = keys(hashes, distance).ravel()
    order = np.argsort(every, kind="stable")
    return Index(hashes, distance, every[order], (order // spread(distance)).astype(np.int32))


def neighbours(keys: Hashes, hashes: Hashes, distance: int) -> tuple[Numbers, Numbers]:
    """Pairs that share a key and differ in at most `distance` bits.

    Args:
        keys: one for each row.
        hashes: one for each row.
        distance: bits.

    Returns:
        Numbers of rows, first[i] < second[i]; a pair that shares several keys comes several times.
    """
    order = np.lexsort((np.arange(len(keys)), keys))
    parts = list(_pairs(keys[order], hashes[order], distance))
    empty = [np.empty((2, 0), np.int64)]
    first, second = order[np.concatenate(empty + parts, axis=1)]
    return np.minimum(first, second), np.maximum(first, second)


def _pairs(keys: Hashes, hashes: Hashes, distance: int) -> Iterator[Numbers]:
    """Pairs of places in rows that are sorted by key."""
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(keys)])
    sizes = np.diff(np.r_[starts, len(keys)])
    left = np.repeat(np.where(sizes <= _SMALL, starts + sizes, 0), sizes)  # where a small group ends
    for gap in range(1, min(_SMALL, int(sizes.max(initial=0)))):
        first = np.flatnonzero(np.arange(len(keys)) + gap < left)
        is_near = np.bitwise_count(hashes[first] ^ hashes[first + gap]) <= distance
        yield np.stack([first[is_near], first[is_near] + gap])
    for start, size in zip(starts[sizes > _SMALL], sizes[sizes > _SMALL], strict=True):
        for pair in _within(hashes[start : start + size], distance):
            yield pair + start


def _within(hashes: Hashes, distance: int) -> Iterator[Numbers]:
    """All pairs of neighbours of one group, some rows against the rest at a time."""
    rows = max(1, _CELLS // len(hashes))
    for start in range(0, len(hashes), rows):
        apart = np.bitwise_count(hashes[start : start + rows, None] ^ hashes[None, start:])
        first, second = np.nonzero(apart <= distance)
        later = second > first
        yield np.stack([first[later], second[later]]) + start


def _blocks(distance: int) -> list[tuple[int, int]]:
    """Where each block of bits begins and ends."""
    edges = np.linspace(0, _BITS, distance + 3).round().astype(int).tolist()
    return list(pairwise(edges))


def _mask(block: tuple[int, int]) -> int:
    start, end = block
    return (1 << end) - (1 << start)
