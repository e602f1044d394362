"""Painted pictures: drawings and photographs of a seed, their encodings, what `download` makes of them."""

import hashlib
import io

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from lcl_data.pictures import Picture, Prepared, prepare

SETTINGS = Picture()


def drawing(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some texture: compresses like a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + random.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def prepared(data: bytes, settings: Picture = SETTINGS) -> Prepared:
    result = prepare(data, settings)
    assert isinstance(result, Prepared), result
    assert result.sha256 == hashlib.sha256(result.content).hexdigest()
    with Image.open(io.BytesIO(result.content)) as image:
        assert image.format == "JPEG" and image.size == (result.width, result.height)
    return result


def pixels(result: Prepared) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.content)).convert("RGB")).astype(int)


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def diagram(seed, word="", size=(256, 200)):
    """A few shapes on white, and a word: what perceptual hashes cannot tell apart by the word."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, w, h = (int(part) for part in rng.integers(20, 120, 4))
        draw.rectangle((x, y, x + w, y + h), fill=tuple(rng.integers(0, 255, 3).tolist()), outline="black")
    draw.rectangle((150, 140, 245, 190), fill="white", outline="black")
    draw.text((156, 152), word, fill="black", font_size=22)
    return image


def photograph(seed, size=(240, 200)):
    rng = np.random.default_rng(seed)
    layers = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (3, 12, 48)]
    grown = [np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BICUBIC), float) for x in layers]
    return Image.fromarray((0.5 * grown[0] + 0.3 * grown[1] + 0.2 * grown[2]).astype(np.uint8))


def jpeg(image, quality=90):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def recoded(image, scale=0.8, quality=45, brightness=1.05):
    small = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.LANCZOS)
    return jpeg(ImageEnhance.Brightness(small).enhance(brightness), quality)
