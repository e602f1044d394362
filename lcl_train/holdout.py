"""Which documents a run never learns from, so that it can be asked about them.

They are those whose ids have the smallest hashes: whatever the seed, the order, the number of ranks or how
the shards are cut, the same ones; and a corpus that grows keeps most of its choice.
"""

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


def held_out(shards: Shards, is_drawn: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Which rows are held out.

    Args:
        shards: of the run.
        is_drawn: bool [rows], whether a row can be drawn at all; others are not chosen.
        share: of the drawn rows, 0-1; but at least 64 and at most 2,000, and never more than a tenth.

    Returns:
        bool [rows]; the parts of a document go together, so there may be a few more than the share.

    Raises:
        ShardError: an id is not of LCL.
    """
    wanted = count(int(is_drawn.sum()), share)
    if not wanted:
        return np.zeros(len(is_drawn), np.bool_)
    numbers = np.concatenate([hashes(ids) for ids in shards.ids()])
    last = np.partition(numbers[is_drawn], wanted - 1)[wanted - 1]
    return np.asarray(is_drawn & (numbers <= last))


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
    padded = pc.utf8_rpad(pc.utf8_slice_codeunits(ids, 0, _ID_LENGTH), _ID_LENGTH, padding=" ")
    if pc.sum(pc.binary_length(padded)).as_py() not in (None, len(ids) * _ID_LENGTH):
        raise ShardError(
            "the ids of the training shards are no hexadecimal numbers; write them with `lcl shard`"
        )
    text = np.frombuffer(padded.buffers()[2] or b"", np.uint8, len(ids) * _ID_LENGTH)
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
