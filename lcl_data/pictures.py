"""Bytes of strangers to a verified JPEG of bounded size, with the facts that curation needs.

A JPEG that is upright and small enough keeps its own bytes once it has been decoded to the end (nothing is
lost and nothing spent on encoding); everything else is re-encoded. Pillow reads every header and all formats;
a plain JPEG's pixels come from simplejpeg, which gives the same in four fifths of the time; where that finds
any fault, Pillow decides what it is.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import simplejpeg
from PIL import Image, ImageChops, UnidentifiedImageError
from pydantic import Field

from lcl_data.phash import drafted, phash
from lcl_data.reduction import Pixels, Resample, as_pillow, reduced
from schemas.colours import on_white, plain
from schemas.errors import ImageError
from schemas.recipe import Settings

_T = TypeVar("_T")
_JPEGS = ("JPEG", "MPO")
_PLAIN = ("L", "RGB")  # modes of a JPEG without surprises
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_ANIMATED = (
    "gif",
    "webp",
    "png",
)  # several frames elsewhere (MPO, TIFF) are pages or views, not an animation
_JPEG_SIDE = 65_500  # the longest side libjpeg writes
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # its values that swap width and height
_GAP = 2  # a picture is first reduced cheaply to no less than this times the wanted size
_OPAQUE_QUALITY = 75  # of the JPEG that is kept only to be compared: 95 and 60 find the same copies
# Levels that a picture of this side spans, or its difference from another, where something is to be seen.
_SEEN, _GLANCE = 32, 32
_PILLOW_LIMIT = 89_478_485  # above, Pillow itself warns of a bomb


class Picture(Settings):
    """How pictures are stored."""

    short_side: int = Field(
        256, ge=8, description="pixels; a longer short side is reduced to it, a smaller picture left alone"
    )
    quality: int = Field(95, ge=1, le=95, description="of the JPEG (95: img2dataset's own)")
    max_pixels: int = Field(
        50_000_000,
        ge=1,
        le=_PILLOW_LIMIT,
        description="width x height above which a picture is refused from its header, before it is decoded",
    )
    # Bicubic costs a tenth more than box (img2dataset's area) and bilinear, is sharper than bilinear and
    # without the dislocations of box; lanczos costs two thirds more.
    resample: Resample = Field("bicubic", description="filter by which a picture is reduced")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stored picture.

    Attributes:
        content: JPEG bytes, grey or YCbCr, upright; one that was kept as it came still carries its EXIF.
        width: pixels of the stored picture.
        height: pixels of the stored picture.
        original_width: pixels of the original, upright.
        original_height: pixels of the original, upright.
        format: of the original: jpeg, png, webp, gif, bmp or tiff.
        is_animated: the original has several frames; this is the first.
        sha256: hex digest of `content`.
        phash: 64-bit perceptual hash of the stored pixels before encoding.
        opaque: JPEG of the picture as a decoder shows it that ignores transparency, of the same size; None
            where that is no other picture, or of one colour.
        opaque_phash: its perceptual hash.
    """

    content: bytes
    width: int
    height: int
    original_width: int
    original_height: int
    format: str
    is_animated: bool
    sha256: str
    phash: int
    opaque: bytes | None = None
    opaque_phash: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Bytes that are no usable picture.

    Attributes:
        reason: empty, not_an_image, unsupported_format, too_many_pixels, too_long, truncated, broken_image or
            decoder_crashed.
        detail: the same in words.
    """

    reason: str
    detail: str


def prepare(data: bytes, settings: Picture) -> Prepared | Refusal:
    """Verify, turn upright, reduce, encode and hash one picture; never raises, whatever the bytes."""
    return guarded(data, settings.max_pixels, lambda image: _normalise(image, data, settings))


def stored_phash(data: bytes, max_pixels: int) -> int | Refusal:
    """The perceptual hash of a picture that others stored, once decoded to its end; never raises either."""
    return guarded(data, max_pixels, lambda image: phash(drafted(image)))


def prepare_all(batch: Sequence[bytes], settings: Picture) -> list[Prepared | Refusal]:
    """`prepare` for a batch: what a worker process is sent at once, because each message has its price."""
    return [prepare(data, settings) for data in batch]


def guarded(data: bytes, max_pixels: int, work: Callable[[Image.Image], _T]) -> _T | Refusal:
    """What `work` makes of an opened picture, or why there is nothing to be made of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd EXIF and palettes, and decodes
            return _tried(_open(data, max_pixels), work)
    except ImageError as error:
        return Refusal(error.reason, error.detail)


def _tried(image: Image.Image, work: Callable[[Image.Image], _T]) -> _T:
    try:
        return work(image)
    except ImageError:
        raise
    except (
        Exception
    ) as error:  # Pillow's readers raise whatever they stumble over: struct.error, KeyError, ...
        reason = "truncated" if "truncated" in str(error).lower() else "broken_image"
        raise ImageError(reason, f"{type(error).__name__}: {error}"[:200]) from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """The picture with its header read and nothing decoded."""
    if not data:
        raise ImageError("empty", "no bytes")
    if data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise ImageError("truncated", f"{len(data)} bytes, shorter than its header says")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except Exception as error:  # as above
        raise ImageError("truncated", f"{type(error).__name__}: {error}"[:200]) from error
    if image.width * image.height > max_pixels:
        raise ImageError("too_many_pixels", f"{image.width} x {image.height}")
    return image


def _unidentified(data: bytes) -> ImageError:
    start = data[:512].lstrip().lower()
    if b"<svg" in start or data[4:8] == b"ftyp":
        return ImageError("unsupported_format", "SVG" if b"<svg" in start else "AVIF, HEIC or video")
    if start.startswith(b"<"):
        return ImageError("not_an_image", "HTML or XML")
    if data.startswith(_MAGIC) or data[:4] == b"RIFF":
        return ImageError("truncated", f"{len(data)} bytes, ends within the header")
    return ImageError("not_an_image", f"starts with {data[:8]!r}")


def _normalise(image: Image.Image, data: bytes, settings: Picture) -> Prepared:
    form = "jpeg" if image.format in _JPEGS else str(image.format).lower()
    is_animated = form in _ANIMATED and bool(getattr(image, "is_animated", False))
    # Pillow turns a TIFF itself.
    orientation = 1 if form == "tiff" else image.getexif().get(_ORIENTATION, 1)
    original = image.size[::-1] if orientation in _SIDEWAYS else image.size
    size = _size(image.size, settings.short_side)
    is_kept = form == "jpeg" and orientation == 1 and size == image.size and image.mode in _PLAIN
    pixels = _decode(image, data, size)
    has_alpha = image.has_transparency_data
    pixels = reduced(pixels, size, settings.resample, has_alpha)
    if has_alpha:  # after reducing, which weighs colours by alpha
        pixels = np.asarray(on_white(as_pillow(pixels, "RGBA")).convert("RGBX"))
    pixels = _upright(pixels, orientation)
    content = data if is_kept else _encode(pixels, settings.quality)
    digest = hashlib.sha256(content).hexdigest()
    height, width = pixels.shape[:2]
    looks = (
        phash(as_pillow(pixels)),
        *(_opaque(image, settings.resample, orientation, pixels) if has_alpha else ()),
    )
    return Prepared(content, width, height, *original, form, is_animated, digest, *looks)


def _opaque(
    image: Image.Image, resample: Resample, orientation: int, shown: Pixels
) -> tuple[()] | tuple[bytes, int]:
    """JPEG and hash of the picture with what its transparency hides, if that is another picture than the one
    shown, and not plain.

    Whoever converts to RGB and does not ask for alpha (Pillow's `convert`, OpenCV's `imread`) makes such
    copies. Of an icon whose shape is its alpha a plain square is left, which is nobody's copy.
    """
    layer = plain(image)
    if layer.getchannel("A").getextrema()[0] == 255:
        return ()
    upright = _upright(np.asarray(layer), orientation)
    pixels = reduced(upright, shown.shape[1::-1], resample, has_alpha=False)
    glance = _glanced(pixels)
    apart = ImageChops.difference(glance, _glanced(shown))
    if min(np.ptp(np.asarray(glance)), np.ptp(np.asarray(apart))) < _SEEN:
        return ()
    return _encode(pixels, _OPAQUE_QUALITY), phash(as_pillow(pixels))


def _glanced(pixels: Pixels) -> Image.Image:
    """So much of a picture as tells it from another at a glance."""
    return as_pillow(pixels).convert("L").resize((_GLANCE, _GLANCE), Image.Resampling.BOX)


def _size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    shortest = min(size)
    if shortest <= short_side:
        return size
    width, height = (max(1, round(side * short_side / shortest)) for side in size)
    return width, height


def _decode(image: Image.Image, data: bytes, size: tuple[int, int]) -> Pixels:
    """The pixels; of a large picture first reduced cheaply, to no less than `_GAP` times `size`."""
    least = (_GAP * size[0], _GAP * size[1]) if size != image.size else image.size
    if image.format in _JPEGS:
        if image.mode in _PLAIN and (pixels := _quickly(image, data, least)) is not None:
            return pixels
        image.draft(None, least)
    image.load()
    image = plain(image)
    factor = min(have // wanted for have, wanted in zip(image.size, least, strict=True))
    return np.asarray(image.reduce(factor) if factor > 1 else image)


def _quickly(image: Image.Image, data: bytes, least: tuple[int, int]) -> Pixels | None:
    """The pixels of a JPEG that is without any fault, and whose header says the same to both decoders."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != image.size:
            return None
        colours = "GRAY" if image.mode == "L" else "RGBA"
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, colours, min_width=least[0], min_height=least[1], min_factor=2
        )
    except ValueError:
        return None
    return pixels[..., 0] if image.mode == "L" else pixels


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.asarray(as_pillow(pixels).transpose(turn))


def _encode(pixels: Pixels, quality: int) -> bytes:
    height, width = pixels.shape[:2]
    if max(width, height) > _JPEG_SIDE:
        raise ImageError("too_long", f"{width} x {height}: no JPEG is longer than {_JPEG_SIDE}")
    colours, subsampling = ("GRAY", "Gray") if pixels.ndim == 2 else ("RGBX", "420")
    whole = np.ascontiguousarray(pixels).reshape(height, width, -1)
    content: bytes = simplejpeg.encode_jpeg(whole, quality, colours, subsampling)
    return content
