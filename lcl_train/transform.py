"""Encoded pictures to square pixels: the paper's light random crop for training, a centre crop for evals.

Pillow decodes and resizes in one pass without holding the interpreter's lock, so threads are enough.
"""

import io
import math
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

CROP_AREA = (0.9, 1.0)  # of the picture
CROP_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def decode(encoded: bytes | memoryview) -> Image.Image:
    """An encoded picture in RGB.

    Raises:
        OSError: the bytes are no whole picture.
    """
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def random_crop(picture: Image.Image, side: int, *seed: object) -> Pixels:
    """Cut 90-100 % of the area at random and scale it to a square.

    Args:
        picture: in RGB.
        side: pixels of the square.
        seed: what the crop depends on, and nothing else does.

    Returns:
        uint8 [3, side, side]; the model normalises them on its device.
    """
    digest = blake2b("/".join(map(str, seed)).encode(), digest_size=8).digest()
    box = _random_box(picture.width, picture.height, np.random.default_rng(int.from_bytes(digest, "little")))
    return _channels_first(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))


def centre_crop(picture: Image.Image, side: int) -> Pixels:
    """The largest square in the middle, scaled; uint8 [3, side, side]."""
    short = min(picture.size)
    left, top = (picture.width - short) / 2, (picture.height - short) / 2
    box = (left, top, left + short, top + short)
    return _channels_first(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))


def _random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """Area and aspect as torchvision's RandomResizedCrop draws them; the whole picture where none fits."""
    low, high = np.log(CROP_ASPECT)
    for _ in range(_ATTEMPTS):
        area = width * height * rng.uniform(*CROP_AREA)
        aspect = math.exp(rng.uniform(low, high))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


def _channels_first(picture: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
