"""What the pixels of a picture say of it: a few numbers from its grey levels, at one scale.

All are made in one pass, because decoding costs as much as all of them. Of a JPEG the brightness alone is
decoded. Every number is a sum of integers until its last step, so that no machine rounds it otherwise.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcl_data.pictures import Refusal, guarded
from schemas.errors import ImageError

if TYPE_CHECKING:
    import zxingcpp

SIDE_PX = 256  # a longer short side is reduced to it: what the facts say holds for this scale
_NEAR = 8  # grey levels on either side that noise and JPEG give a flat colour
_LEVELS = np.arange(256)

Grey = NDArray[np.uint8]
Facts = dict[str, float | int | None]  # of the columns of `schemas.pixels.PIXELS`


def pixel_facts(data: bytes, max_pixels: int) -> Facts | Refusal:
    """Measure one encoded picture; never raises, whatever the bytes.

    Args:
        data: of any format that the store may hold.
        max_pixels: width x height above which it is refused.

    Returns:
        Facts of the grey picture (0 black to 255 white; its short side at most `SIDE_PX`):

        - pixel_sharpness: variance of the Laplacian (4 neighbours), in squared levels; None below 3 x 3.
        - pixel_contrast: standard deviation, in levels.
        - pixel_entropy: of the histogram of levels, in bits (0..8).
        - pixel_ground: the most common level.
        - pixel_plain_share: share of pixels in the fullest run of 17 levels (0..1): how much of it is of one
          brightness.
        - pixel_qr_share: share of the picture inside QR codes, without their quiet zones (0..1).
    """
    return guarded(data, max_pixels, _measure)


def _measure(image: Image.Image) -> Facts:
    reduced = _grey(image)
    grey, counts = np.asarray(reduced), _histogram(reduced)
    return {
        "pixel_sharpness": _laplacian_variance(grey),
        "pixel_contrast": math.sqrt(
            _variance(_total(counts * _LEVELS), _total(counts * _LEVELS**2), grey.size)
        ),
        "pixel_entropy": _entropy(counts),
        "pixel_ground": int(counts.argmax()),
        "pixel_plain_share": _fullest_run(counts) / grey.size,
        "pixel_qr_share": _qr_share(grey),
    }


def _grey(image: Image.Image) -> Image.Image:
    """The picture in grey at the scale of measurement, transparent pixels over white."""
    if image.mode.startswith(("I", "F")):  # Pillow clips what is above 255
        raise ImageError("unsupported_format", f"pixels of mode {image.mode}")
    shortest = min(image.size)
    width, height = (max(1, round(side * min(1.0, SIDE_PX / shortest))) for side in image.size)
    image.draft(
        "L", (width, height)
    )  # a JPEG decodes its brightness only, at 1/2, 1/4 or 1/8 where that does
    image.load()
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        image = page
    grey = image.convert("L")
    return grey.resize((width, height), Image.Resampling.HAMMING) if grey.size != (width, height) else grey


def _histogram(grey: Image.Image) -> NDArray[np.int64]:
    """How many pixels have each of the 256 levels; Pillow counts in half of numpy's time."""
    return np.array(grey.histogram(), np.int64)


def _laplacian_variance(grey: Grey) -> float | None:
    if min(grey.shape) < 3:
        return None
    level = grey.astype(np.int16)
    edge = level[1:-1, :-2] + level[1:-1, 2:]
    edge += level[:-2, 1:-1]
    edge += level[2:, 1:-1]
    edge -= 4 * level[1:-1, 1:-1]
    return _variance(_total(edge), _total(np.square(edge, dtype=np.int32)), edge.size)


def _variance(total: int, squares: int, size: int) -> float:
    return (squares * size - total * total) / (size * size)


def _total(numbers: NDArray[Any]) -> int:
    return int(numbers.sum(dtype=np.int64))


def _entropy(counts: NDArray[np.int64]) -> float:
    size = int(counts.sum())
    shares: Iterable[float] = (count / size for count in counts.tolist() if count)
    return -math.fsum(share * math.log2(share) for share in shares) + 0.0  # no -0.0


def _fullest_run(counts: NDArray[np.int64]) -> int:
    """The most pixels in any run of `2 * _NEAR + 1` neighbouring levels."""
    return int(np.convolve(counts, np.ones(2 * _NEAR + 1, np.int64)).max())


def _qr_share(grey: Grey) -> float:
    """The share of a picture that QR codes cover, readable or not."""
    import zxingcpp

    kinds = zxingcpp.barcode_formats_from_str("QRCode")
    found = zxingcpp.read_barcodes(grey, formats=kinds, return_errors=True)
    return min(1.0, sum(_area(code.position) for code in found) / grey.size)


def _area(position: "zxingcpp.Position") -> float:
    """Of a quadrilateral in pixels, by its diagonals."""
    one, two, three, four = (
        position.top_left, position.top_right, position.bottom_right, position.bottom_left,
    )  # fmt: skip
    return abs((three.x - one.x) * (four.y - two.y) - (four.x - two.x) * (three.y - one.y)) / 2
