"""Whether two pictures are one picture encoded twice, from thumbnails of both.

A 64-bit perceptual hash cannot tell two diagrams of one layout apart, nor a photograph from its tinted copy:
it finds candidates, this decides. What must agree is every place of the picture, not the picture on average:
a changed label is a few windows of several hundred. And its detail must agree: a photograph and the same
behind canvas or noise are one where only shapes are compared.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcl_data.pictures import Picture, Refusal, guarded
from lcl_data.store import read_pictures

SIDE = 128  # of a thumbnail, pixels: any picture is squeezed to a square
_COLOUR_SIDE = 16  # colour is stored by all codecs at a lower resolution
_LUMA = SIDE * SIDE
THUMBNAIL_BYTES = 1 + _LUMA + 2 * _COLOUR_SIDE * _COLOUR_SIDE
# Neither box, whose windows jump by a pixel between two sizes of one picture, nor what blurs small letters.
_RESAMPLE = Image.Resampling.HAMMING
_STEP = 3  # pixels of the halved thumbnail; a window has two steps a side
# Variance (squared grey levels) that an encoder may add or take away in a window: on flat ground only a
# difference well above it counts.
_NOISE = 400.0
# Detail is what varies within squares of 2 x 2 pixels. It is compared in 4 x 4 parts, so that what lies on a
# sky is not outweighed by leaves; of its variance an encoder may add or take away this.
_PARTS = 4
_GRAIN = 25.0
# Stored pixels of the short side (1.25 to a pixel of the thumbnail) below which nothing of a thumbnail's
# finest detail is left by a low quality: there the detail of the halved thumbnail is compared.
_SHARP = 160
_GAIN, _SHIFT = 1.4, 32.0  # brightness and contrast may have changed this far
_PAIRS = 256  # compared at once: about 80 MB
_READ = 500  # pictures read at once: about 10 MB
_MAX_PIXELS = Picture().max_pixels  # of a store that others made

Array = NDArray[np.float32]
Read = Callable[[Path, Iterable[str]], dict[str, bytes]]


def thumbnail(image: Image.Image) -> bytes:
    """The picture as `THUMBNAIL_BYTES` bytes: its short side (255 at most), 128 x 128 of luma, 16 x 16 of
    each colour difference.
    """
    luma, *colours = image.convert("YCbCr").split()
    parts = [luma.resize((SIDE, SIDE), _RESAMPLE)]
    parts += [colour.resize((_COLOUR_SIDE, _COLOUR_SIDE), _RESAMPLE) for colour in colours]
    return bytes([min(*image.size, 255)]) + b"".join(part.tobytes() for part in parts)


def stored_thumbnails(
    images: Path, keys: Sequence[str], read: Read = read_pictures
) -> Iterator[tuple[str, bytes]]:
    """Key and thumbnail of each of those pictures that the store holds, a few hundred in memory at a time;
    `read=read_opaque`: of the pictures with transparency ignored.

    Raises:
        ShardError: the store is torn.
    """
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _READ):
        for key, content in read(images, wanted[start : start + _READ]).items():
            made = guarded(content, _MAX_PIXELS, thumbnail)
            if not isinstance(made, Refusal):
                yield key, made


def likeness(ones: list[bytes], others: list[bytes]) -> NDArray[np.float32]:
    """How alike the pictures of each pair of thumbnails are where they are least alike: 0..1, shape [n].

    1 less the mean squared difference in proportion to what varies, once brightness and contrast are made
    equal: of all windows, and of the detail of all parts, the lowest. It does not depend on the order of a
    pair.
    """
    blocks = range(0, len(ones), _PAIRS)
    parts = [_compared(ones[start : start + _PAIRS], others[start : start + _PAIRS]) for start in blocks]
    return np.concatenate([*parts, np.empty(0, np.float32)])


def _compared(ones: list[bytes], others: list[bytes]) -> Array:
    (short, x, few), (other_short, y, other_few) = _planes(ones), _planes(others)
    small, other_small = _halved(x), _halved(y)
    gain, shift = _levels(small, other_small)
    x, y = x * gain, y / gain
    small, other_small = small * gain, other_small / gain
    fine = _detail(x, small, y, other_small)
    coarse = _detail(small, _halved(small), other_small, _halved(other_small))
    detail = np.where(np.minimum(short, other_short) < _SHARP, coarse, fine)
    first = [small + shift, *(_grown(plane * gain) for plane in few)]
    second = [other_small - shift, *(_grown(plane / gain) for plane in other_few)]
    lowest: Array = np.minimum(detail, _windows(first, second)).clip(0, 1)
    return lowest


def _planes(thumbnails: list[bytes]) -> tuple[NDArray[np.uint8], Array, list[Array]]:
    """Short sides [n]; luma [n, 128, 128] and both colour differences [n, 16, 16], around zero."""
    flat = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_BYTES)
    planes = flat[:, 1:].astype(np.float32) - np.float32(128)
    colours = planes[:, _LUMA:].reshape(-1, 2, _COLOUR_SIDE, _COLOUR_SIDE)
    return flat[:, 0], planes[:, :_LUMA].reshape(-1, SIDE, SIDE), [colours[:, 0], colours[:, 1]]


def _levels(x: Array, y: Array) -> tuple[Array, Array]:
    """What x is multiplied by and then raised by, y divided by and then lowered by, so that both get the
    geometric mean of their contrasts and the mean of their brightnesses, as far as allowed.
    """
    ratio = np.sqrt((y.var((1, 2)) + 25) / (x.var((1, 2)) + 25)).clip(1 / _GAIN, _GAIN)
    gain = np.sqrt(ratio)
    shift = (y.mean((1, 2)) / gain - x.mean((1, 2)) * gain).clip(-_SHIFT, _SHIFT) / 2
    return gain[:, None, None], shift[:, None, None]


def _detail(x: Array, small_x: Array, y: Array, small_y: Array) -> Array:
    """The agreement of what each picture shows beyond its half, in the part where it is lowest: [n]."""
    varies = _lost(x, small_x) + _lost(y, small_y) + np.float32(_GRAIN)
    lowest: Array = (1 - _lost(x - y, small_x - small_y) / varies).min((1, 2))
    return lowest


def _lost(whole: Array, half: Array) -> Array:
    """The variance that halving takes away, in each part: [n, 4, 4]."""
    return _in_parts(whole) - _in_parts(half)


def _in_parts(values: Array) -> Array:
    """The mean square of each part."""
    side = values.shape[1] // _PARTS
    parts = values.reshape(-1, _PARTS, side, _PARTS, side)
    mean: Array = np.einsum("nabcd,nabcd->nac", parts, parts) / np.float32(side * side)
    return mean


def _windows(x: list[Array], y: list[Array]) -> Array:
    """The agreement of all planes together, in the window where it is lowest: [n]."""
    varies = _variance(x) + _variance(y) + np.float32(_NOISE)
    apart = _windowed(_squares([a - b for a, b in zip(x, y, strict=True)]))
    lowest: Array = (1 - apart / varies).min((1, 2))
    return lowest


def _variance(planes: list[Array]) -> Array:
    """What varies in each window, in luma and colours together."""
    variance: Array = _windowed(_squares(planes)) - _squares([_windowed(plane) for plane in planes])
    return variance.clip(0)


def _squares(planes: list[Array]) -> Array:
    total: Array = np.zeros_like(planes[0])
    for plane in planes:
        total += plane * plane
    return total


def _windowed(values: Array) -> Array:
    """The mean over each window, [n, 64, 64] to [n, 20, 20]."""
    end = values.shape[1] // _STEP * _STEP
    rows = values[:, 0:end:_STEP] + values[:, 1:end:_STEP] + values[:, 2:end:_STEP]
    blocks = rows[:, :, 0:end:_STEP] + rows[:, :, 1:end:_STEP] + rows[:, :, 2:end:_STEP]
    pairs = blocks[:, 1:] + blocks[:, :-1]
    mean: Array = (pairs[:, :, 1:] + pairs[:, :, :-1]) / np.float32(4 * _STEP * _STEP)
    return mean


def _halved(values: Array) -> Array:
    """The mean of each square of 2 x 2."""
    rows = values[:, ::2] + values[:, 1::2]
    total: Array = rows[:, :, ::2] + rows[:, :, 1::2]
    return total / np.float32(4)


def _grown(plane: Array) -> Array:
    """A colour difference at the side of the halved luma."""
    times = SIDE // 2 // _COLOUR_SIDE
    return plane.repeat(times, 1).repeat(times, 2)
