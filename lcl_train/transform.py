"""Encoded pictures to normalised pixels: the paper's light random crop for training, a centre crop for evals.

Pillow decodes and resizes in one pass without holding the interpreter's lock, so threads are enough.
"""

import io
import math
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]
Box = tuple[float, float, float, float]

# OpenAI's statistics, which the reference implementation uses too.
MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
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
        Normalised float32 [3, side, side].
    """
    digest = blake2b("/".join(map(str, seed)).encode(), digest_size=8).digest()
    box = _random_box(picture.width, picture.height, np.random.default_rng(int.from_bytes(digest, "little")))
    return _normalise(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))


def centre_crop(picture: Image.Image, side: int) -> Pixels:
    """The largest square in the middle, scaled; normalised float32 [3, side, side]."""
    short = min(picture.size)
    left, top = (picture.width - short) / 2, (picture.height - short) / 2
    box = (left, top, left + short, top + short)
    return _normalise(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))


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


def _normalise(picture: Image.Image) -> Pixels:
    pixels = np.asarray(picture, np.float32) / 255
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1))
