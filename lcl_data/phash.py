"""The 64-bit perceptual hash of the `imagehash` package, but for a rare rounding, at a third of its cost.

Near-duplicate search compares these hashes across corpora, and published sets carry imagehash's, so ours must
be the same. Pillow's reduction to 32 x 32 becomes two small matrix products that round where Pillow rounds.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 32  # pixels of the reduced picture
_LOW = 8  # frequencies kept per axis
_LOBES = 3.0  # of the Lanczos window
_DRAFT = 200  # least side of a reduced decode: at 128, 6 hashes of 100 move by more than two bits
_BLOCK = 200_000  # multiplications; OpenBLAS starts its threads above 262,144


def phash(image: Image.Image) -> int:
    """The perceptual hash of a picture of any mode that Pillow converts to grey.

    Bit 63 is the lowest frequency; a bit is set where the coefficient exceeds the median of the 64.
    """
    grey = np.asarray(image.convert("L")).astype(np.float32)
    height, width = grey.shape
    if height > 2 * width - _SIDE:  # Pillow 13 takes the vertical pass first, found by trying
        small = _product(_product(_reduction(height), grey), _reduction(width).T)
    else:
        small = _product(_reduction(height), _product(grey, _reduction(width).T))
    low = _cosines() @ small.astype(np.float64) @ _cosines().T
    coefficients = low.ravel()
    median = np.partition(coefficients, (31, 32))[31:33].mean()  # a sixth of what np.median takes
    bits = np.packbits(coefficients > median)
    return int.from_bytes(bits.tobytes(), "big")


def drafted(image: Image.Image) -> Image.Image:
    """The opened picture, a JPEG set to be decoded in grey and at a half, quarter or eighth: two to four
    times as fast to hash, and the hash within four bits, most often the same.
    """
    if image.format in ("JPEG", "MPO"):
        image.draft("L", (_DRAFT, _DRAFT))
    return image


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix product as Pillow stores it, 0 to 255 in whole steps.

    In blocks too small for BLAS to share out: waking its threads costs more than the product, and forty times
    more where other processes use the cores.
    """
    rows = max(1, _BLOCK // right.size)
    blocks = [left[start : start + rows] @ right for start in range(0, len(left), rows)]
    rounded: NDArray[np.float32] = np.floor(np.clip(np.concatenate(blocks), 0, 255) + np.float32(0.5))
    return rounded


@lru_cache(4096)
def _reduction(length: int) -> NDArray[np.float32]:
    """Weights [32, length] of a Lanczos reduction with the support Pillow gives it."""
    scale = length / _SIDE
    stretch = max(scale, 1.0)
    centre = (np.arange(_SIDE)[:, None] + 0.5) * scale
    place = np.arange(length)[None, :]
    first = np.floor(centre - _LOBES * stretch + 0.5)
    last = np.floor(centre + _LOBES * stretch + 0.5)
    x = (place - centre + 0.5) / stretch
    weights = np.where((place >= first) & (place < last), np.sinc(x) * np.sinc(x / _LOBES), 0.0)
    result: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return result


@lru_cache(1)
def _cosines() -> NDArray[np.float64]:
    """The first 8 rows of the DCT-II of 32 points, [8, 32]."""
    k, n = np.arange(_LOW)[:, None], np.arange(_SIDE)[None, :]
    result: NDArray[np.float64] = 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))
    return result
