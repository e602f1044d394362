"""Whether two pictures are one picture encoded twice, from thumbnails of both.

A 64-bit perceptual hash cannot tell two diagrams of one layout apart, nor a photograph from its tinted copy:
it finds candidates, this decides. What must agree is every place of the picture, not the picture on average:
a changed label is a few windows of several hundred.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcl_data.pictures import Picture, Refusal, guarded
from lcl_data.store import read_pictures

SIDE = 64  # of a thumbnail, pixels: any picture is squeezed to a square
_COLOUR_SIDE = 16  # colour is stored by all codecs at a lower resolution
THUMBNAIL_BYTES = SIDE * SIDE + 2 * _COLOUR_SIDE * _COLOUR_SIDE
_WINDOW, _STEP = 6, 3  # pixels of the thumbnail
# Neither box, whose windows jump by a pixel between two sizes of one picture, nor what blurs small letters.
_RESAMPLE = Image.Resampling.HAMMING
# Variance (squared grey levels) that an encoder may add or take away in a window: on flat ground only a
# difference well above it counts.
_NOISE = 400.0
_GAIN, _SHIFT = 1.4, 32.0  # brightness and contrast may have changed this far
_PAIRS = 512  # compared at once: about 50 MB
_READ = 500  # pictures read at once: about 10 MB
_MAX_PIXELS = Picture().max_pixels  # of a store that others made

Array = NDArray[np.float32]


def thumbnail(image: Image.Image) -> bytes:
    """The picture as `THUMBNAIL_BYTES` bytes: 64 x 64 of luma, then 16 x 16 of each colour difference."""
    luma, *colours = image.convert("YCbCr").split()
    side, few = (SIDE, SIDE), (_COLOUR_SIDE, _COLOUR_SIDE)
    parts = [luma.resize(side, _RESAMPLE)]
    parts += [colour.resize(few, _RESAMPLE) for colour in colours]
    return b"".join(part.tobytes() for part in parts)


def stored_thumbnails(images: Path, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Key and thumbnail of each of those pictures that the store holds, a few hundred in memory at a time.

    Raises:
        ShardError: the store is torn.
    """
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _READ):
        for key, content in read_pictures(images, wanted[start : start + _READ]).items():
            made = guarded(content, _MAX_PIXELS, thumbnail)
            if not isinstance(made, Refusal):
                yield key, made


def likeness(ones: list[bytes], others: list[bytes]) -> NDArray[np.float32]:
    """How alike the pictures of each pair of thumbnails are where they are least alike: 0..1, shape [n].

    1 less the mean squared difference of a window in proportion to what varies in it, once brightness and
    contrast are made equal; of all windows the lowest. It does not depend on the order of a pair.
    """
    blocks = range(0, len(ones), _PAIRS)
    parts = [_compared(ones[start : start + _PAIRS], others[start : start + _PAIRS]) for start in blocks]
    return np.concatenate([*parts, np.empty(0, np.float32)])


def _compared(ones: list[bytes], others: list[bytes]) -> Array:
    x, y = _levelled(_planes(ones), _planes(others))
    difference = _windowed(((x - y) ** 2).sum(1))
    varies = _variance(x) + _variance(y)
    agreed = (1 - difference / (varies + np.float32(_NOISE))).reshape(len(x), -1)
    lowest: Array = agreed.min(axis=1).clip(0, 1)
    return lowest


def _planes(thumbnails: list[bytes]) -> Array:
    """Luma and both colour differences of each thumbnail at one size, around zero: shape [n, 3, 64, 64]."""
    flat = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_BYTES).astype(np.float32)
    luma = flat[:, : SIDE * SIDE].reshape(-1, 1, SIDE, SIDE)
    colours = flat[:, SIDE * SIDE :].reshape(-1, 2, _COLOUR_SIDE, _COLOUR_SIDE)
    times = SIDE // _COLOUR_SIDE
    return np.concatenate([luma, colours.repeat(times, 2).repeat(times, 3)], axis=1) - np.float32(128)


def _levelled(x: Array, y: Array) -> tuple[Array, Array]:
    """Both at the geometric mean of their contrasts and the mean of their brightnesses, as far as allowed."""
    gain = np.sqrt((y[:, 0].var((1, 2)) + 25) / (x[:, 0].var((1, 2)) + 25)).clip(1 / _GAIN, _GAIN)
    root = np.sqrt(gain)[:, None, None, None]
    x, y = x * root, y / root
    shift = (y[:, 0].mean((1, 2)) - x[:, 0].mean((1, 2))).clip(-_SHIFT, _SHIFT)[:, None, None] / 2
    x[:, 0] += shift
    y[:, 0] -= shift
    return x, y


def _variance(x: Array) -> Array:
    """What varies in each window, in luma and colours together."""
    means = [_windowed(x[:, plane]) ** 2 for plane in range(x.shape[1])]
    variance: Array = _windowed((x * x).sum(1)) - sum(means)
    return variance.clip(0)


def _windowed(values: Array) -> Array:
    """The mean over each window, [n, 64, 64] to [n, 20, 20]."""
    summed = np.pad(values.astype(np.float64).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    last, first = slice(_WINDOW, None, _STEP), slice(0, -_WINDOW, _STEP)
    total = summed[:, last, last] - summed[:, first, last] - summed[:, last, first] + summed[:, first, first]
    mean: Array = (total / (_WINDOW * _WINDOW)).astype(np.float32)
    return mean
