"""Where an image stands: before or after the text it belongs to, by a fair coin that falls anew every epoch.

Before its text an image helps to predict it (generation); after it, the text predicts the image (contrast).
"""

from collections.abc import Sequence
from hashlib import shake_128

import numpy as np
from numpy.typing import NDArray

_BEFORE, _STAYS, _AFTER = 0, 1, 2


def toss(seed: int, epoch: int, document: str, images: int) -> NDArray[np.bool_]:
    """A fair coin per image of a document, True for before; it depends on (seed, epoch, document) only."""
    bits = shake_128(f"{seed}/{epoch}/{document}".encode()).digest((images + 7) // 8)
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=images).astype(np.bool_)


def place(
    tokens: NDArray[np.int32],
    anchors: Sequence[tuple[int, int] | None],
    coin: NDArray[np.bool_],
    image: int,
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Move every anchored image before the first or after the last token of its text.

    Images of one text on one side keep their order; an image without an anchor, or with an empty one, stays.

    Args:
        tokens: int32 [n], one image-position token per image.
        anchors: per image the span [start, end) in `tokens` of its text, or None.
        coin: per image, True for before its text.
        image: the id of the image-position token.

    Returns:
        The tokens in their new order, and for each image token in it that image's number in the old order.
    """
    places = np.flatnonzero(tokens == image)
    if not any(anchors):
        return tokens, np.arange(len(places))
    key = np.arange(len(tokens)) * 3 + _STAYS
    for at, anchor, before in zip(places, anchors, coin, strict=True):
        if anchor is not None and anchor[0] < anchor[1]:
            key[at] = anchor[0] * 3 + _BEFORE if before else (anchor[1] - 1) * 3 + _AFTER
    order = np.argsort(key, kind="stable")
    moved = tokens[order]
    return moved, np.searchsorted(places, order[moved == image])
