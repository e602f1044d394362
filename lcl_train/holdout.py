"""Which documents a run never learns from, so that it can be asked about them.

They are those whose ids have the smallest hashes: whatever the seed, the order, the number of ranks or how
64 shards or fewer are cut, the same ones; and a corpus that grows keeps most of its choice. No part of them
is learned from, in whatever shard it lies.
"""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lcl_data.shards import Shards
from schemas.errors import ShardError

LEAST, MOST = 64, 2000
_SMALLEST_CORPUS = 10  # documents to a held-out one, where LEAST would take more
_ID_LENGTH = 32  # of a document's id; what follows numbers a part, and parts of one document stay together
_ODD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_SHARDS = 64


def held_out(shards: Shards, min_images: int, share: float) -> NDArray[np.int64]:
    """Which rows are held out; those of at most 64 shards are asked, so that no run waits for its corpus.

    Args:
        shards: of the run.
        min_images: rows with fewer pictures are not drawn, and not held out.
        share: of the other rows, 0-1; but at least 64 and at most 2,000, and never more than a tenth.

    Returns:
        int64 [n] sorted rows; the parts of a document go together, so there may be a few more than the share.

    Raises:
        ShardError: an id is not of LCL.
    """
    if not share:
        return np.zeros(0, np.int64)
    asked = _asked(shards)
    rows = np.concatenate([np.arange(shards.starts[n], shards.starts[n + 1]) for n in asked])
    has_enough = np.concatenate([shards.file(n).image_counts() for n in asked]) >= min_images
    numbers = np.concatenate([hashes(shards.file(n).ids()) for n in asked])[has_enough]
    rows, found = rows[has_enough], int(has_enough.sum())
    wanted = min(count(found * len(shards) // max(len(has_enough), 1), share), found // _SMALLEST_CORPUS)
    if not wanted:
        return np.zeros(0, np.int64)
    last = np.partition(numbers, wanted - 1)[wanted - 1]
    chosen = numbers <= last
    if np.count_nonzero(chosen) > found // _SMALLEST_CORPUS:  # the last document has many parts
        chosen = numbers < last
    return np.asarray(rows[chosen])


def documents_of(shards: Shards, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """uint64 [n], the hash of each row's document; the ids of every file that has one of the rows are read.

    Raises:
        ShardError: an id is not of LCL.
    """
    files, which = np.unique(np.searchsorted(shards.starts, rows, "right") - 1, return_inverse=True)
    found = [np.zeros(0, np.uint64), *(hashes(shards.file(int(number)).ids()) for number in files)]
    first = np.cumsum([len(each) for each in found])[:-1] - shards.starts[files]
    return np.asarray(np.concatenate(found)[first[which] + rows], np.uint64)


def _asked(shards: Shards) -> list[int]:
    """Numbers of the shard files whose names have the smallest hashes, in order."""
    digests = [blake2b(str(path.name).encode(), digest_size=8).digest() for path in shards.paths]
    return sorted(sorted(range(len(digests)), key=lambda n: (digests[n], n))[:_SHARDS])


def count(rows: int, share: float) -> int:
    """How many of some rows are held out."""
    if share == 0:
        return 0
    return min(max(round(share * rows), LEAST), MOST, rows // _SMALLEST_CORPUS)


def hashes(ids: pa.Array) -> NDArray[np.uint64]:
    """A 64-bit hash of each document's id, equal for the parts of one document.

    Raises:
        ShardError: an id is not plain ASCII.
    """
    if not _are_as_long(ids):
        ids = pc.utf8_rpad(pc.utf8_slice_codeunits(ids, 0, _ID_LENGTH), _ID_LENGTH, padding=" ")
    if not _are_as_long(ids):
        raise ShardError(
            "ids of the training shards are no hexadecimal numbers; write the shards with `lcl shard`"
        )
    if not len(ids):
        return np.zeros(0, np.uint64)
    _, offsets, data = ids.buffers()
    start = int(np.frombuffer(offsets, np.int32)[ids.offset])
    text = np.frombuffer(data, np.uint8)[start : start + len(ids) * _ID_LENGTH]
    words = text.reshape(-1, _ID_LENGTH).view("<u8").astype(np.uint64)
    mixed = np.zeros(len(words), np.uint64)
    for word in words.T:
        for _ in range(2):  # twice, so that ids that differ in one digit differ in every bit
            mixed = (mixed ^ word) * _ODD
            mixed ^= mixed >> _HALF
    return mixed


def _are_as_long(ids: pa.Array) -> bool:
    """Whether each id is of as many bytes as a document's."""
    return bool(pc.all(pc.equal(pc.binary_length(ids), _ID_LENGTH), min_count=0).as_py())
