"""Encoded pictures to square pixels: the paper's light random crop for training, a centre crop for evals.

simplejpeg decodes, Pillow what it cannot (other formats, other colours), and torch resamples, antialiased and
in uint8: three times Pillow alone, by benchmarks/jpeg.py. The two decoders give equal pixels where both can,
and none of the three holds the interpreter's lock, so threads are enough. Squares stay as decoders give them,
channels last in memory: torch resamples these in two thirds of the time.
"""

import io
import math
import random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from simplejpeg import decode_jpeg
from torch import Tensor
from torch.nn import functional

from schemas.colours import on_white, plain

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]

CROP_AREA = (0.9, 1.0)  # of the picture
CROP_ASPECT = (3 / 4, 4 / 3)
_LOG_ASPECT = math.log(3 / 4), math.log(4 / 3)
_ATTEMPTS = 10
_JPEG = b"\xff\xd8\xff"
# Second bytes of the markers that may precede APP1, where EXIF is, and APP1 itself: APP0 to APP15, comments.
_BEFORE_PIXELS, _APP1 = {bytes([marker]) for marker in (*range(0xE0, 0xF0), 0xFE)}, b"\xe1"


def decode(encoded: bytes | memoryview) -> Pixels:
    """An encoded picture as uint8 [height, width, 3], RGB, upright; its colours are those that curation sees.

    Raises:
        OSError: the bytes are no whole picture.
    """
    if encoded[:3] == _JPEG and not _is_turned(encoded):
        try:
            return np.asarray(decode_jpeg(encoded, "RGB"), np.uint8)
        except ValueError:
            pass  # torn, or of colours that only Pillow turns into RGB: it decides
    try:
        opened = Image.open(io.BytesIO(encoded))
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
        image = plain(opened)
        return np.array(on_white(image) if image.mode == "RGBA" else image.convert("RGB"))
    except (
        Exception
    ) as error:  # Pillow's readers raise whatever they stumble over: struct.error, KeyError, ...
        raise OSError(f"no usable picture: {error}") from error


def _is_turned(jpeg: bytes | memoryview) -> bool:
    """Whether a JPEG's EXIF or XMP says that it is not upright; Pillow is asked only if it has some."""
    at = 2
    while (head := bytes(jpeg[at : at + 4]))[:1] == b"\xff" and head[1:2] in _BEFORE_PIXELS:
        if head[1:2] == _APP1:
            return _orientation(jpeg) != 1
        at += 2 + int.from_bytes(head[2:])
    return False


def _orientation(jpeg: bytes | memoryview) -> int:
    try:
        orientation: int = Image.open(io.BytesIO(jpeg)).getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as above; whoever decodes says what is wrong
        return 1
    return orientation


def random_crop(picture: Pixels, side: int, *seed: object) -> Tensor:
    """Cut 90-100 % of the area at random and scale it to a square: the paper's augmentation.

    Args:
        picture: uint8 [height, width, 3].
        side: pixels of the square.
        seed: what the crop depends on, and nothing else does.

    Returns:
        uint8 [3, side, side], channels last in memory; the model normalises them on its device.
    """
    height, width, _ = picture.shape
    return _square(picture, _random_box(width, height, random.Random("/".join(map(str, seed)))), side)


def centre_crop(picture: Pixels, side: int) -> Tensor:
    """The largest square in the middle, scaled; uint8 [3, side, side]."""
    height, width, _ = picture.shape
    short = min(height, width)
    return _square(picture, _middle(width, height, short, short), side)


def _random_box(width: int, height: int, rng: random.Random) -> Box:
    """The crop of torchvision's RandomResizedCrop, which the reference implementation takes.

    Where ten draws do not fit it is the middle of the picture, as much of it as the range of aspects allows.
    """
    whole, (least, most), (low, high) = width * height, CROP_AREA, _LOG_ASPECT
    for _ in range(_ATTEMPTS):
        area = whole * (least + (most - least) * rng.random())
        aspect = math.exp(low + (high - low) * rng.random())
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = rng.randint(0, width - crop_width), rng.randint(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    aspect = min(max(width / height, CROP_ASPECT[0]), CROP_ASPECT[1])
    return _middle(width, height, min(width, round(height * aspect)), min(height, round(width / aspect)))


def _middle(width: int, height: int, crop_width: int, crop_height: int) -> Box:
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _square(picture: Pixels, box: Box, side: int) -> Tensor:
    left, top, right, bottom = box
    # a batch of one before it is permuted: torch knows channels last by the strides of four dimensions
    cut = torch.from_numpy(picture[top:bottom, left:right])[None].permute(0, 3, 1, 2)
    return functional.interpolate(cut, size=(side, side), mode="bicubic", antialias=True)[0]
