"""What the colours of a picture are, for curation, training and evals alike, where its file leaves that open.

Transparent pixels stand over white, as in browsers; of grey levels of 16 bits the upper 8 count.
"""

import numpy as np
from PIL import Image

from schemas.errors import ImageError


def plain(image: Image.Image) -> Image.Image:
    """A loaded picture as L, or as RGBA if it has colours or transparency.

    Raises:
        ImageError: its pixels are floating-point numbers.
    """
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip them to 8
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ImageError("unsupported_format", "floating-point pixels have no agreed white")
    is_grey = image.mode in ("1", "L") and not image.has_transparency_data
    return image.convert("L" if is_grey else "RGBA")


def on_white(image: Image.Image) -> Image.Image:
    """An RGBA picture over white, as RGB."""
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=image.getchannel("A"))
    return page
