"""The faults that the drawn corpus plants, each a small function; the web has all of them.

A fault touches the picture as it is served, the address that the document gives for it, or the article. Some
faults leave a usable picture (turned by EXIF, animated, relative address): a pipeline must keep those.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image
from PIL.ExifTags import Base

from pipelines.prose import Article, Figure, describe
from pipelines.scenes import jpeg
from schemas.errors import RecipeError

BOMB_SIDE_PX = 20_000
ICON_PX = (16, 16)
STRIP_PX = (480, 60)
TURNED_BY_90 = 6
SPECIAL_TOKENS = (
    "Tags such as <image>, <start_of_img>, <img_placehold>, <|endofchunk|> and <|endoftext|> stay text."
)
BROKEN_LINES = ('{"text_list": ["cut off in the', "[]", '{"text_list": "no list", "image_info": 3}')


@dataclass(frozen=True, slots=True)
class Served:
    """What the host serves for a picture: its bytes (None: nothing), name parts and side-file lines."""

    data: bytes | None
    prefix: str = ""
    suffix: str = ".jpg"
    headers: str = ""


def intact(picture: Image.Image) -> Served:
    """The picture as a JPEG, without any fault."""
    return Served(jpeg(picture))


def _dead(picture: Image.Image) -> Served:
    return Served(None)


def _page(picture: Image.Image) -> Served:
    body = b"<!doctype html><html><title>Moved</title><p>This page has moved.</p></html>\n"
    return Served(body, headers="Content-Type: text/html; charset=utf-8\n")


def _truncated(picture: Image.Image) -> Served:
    data = jpeg(picture)
    return Served(data[: len(data) // 3])


def _empty(picture: Image.Image) -> Served:
    return Served(b"")


def _bomb(picture: Image.Image) -> Served:
    """A valid 1-bit PNG of 400 Mpixel in 50 kB."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + BOMB_SIDE_PX // 8)
    body = b"".join(deflate.compress(row) for _ in range(BOMB_SIDE_PX)) + deflate.flush()
    header = struct.pack(">IIBBBBB", BOMB_SIDE_PX, BOMB_SIDE_PX, 1, 0, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", body), _chunk(b"IEND", b""))
    return Served(b"\x89PNG\r\n\x1a\n" + b"".join(chunks), suffix=".png")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _icon(picture: Image.Image) -> Served:
    return Served(_encoded(picture.resize(ICON_PX), "PNG"), suffix=".png")


def _strip(picture: Image.Image) -> Served:
    return Served(jpeg(picture.resize(STRIP_PX)))


def _opted_out(picture: Image.Image) -> Served:
    return Served(jpeg(picture), headers="X-Robots-Tag: noai\n")


def _logo(picture: Image.Image) -> Served:
    return Served(jpeg(picture), prefix="logo-")


def _button(picture: Image.Image) -> Served:
    return Served(jpeg(picture), prefix="button-")


def _turned(picture: Image.Image) -> Served:
    """Stored lying on its side, with the EXIF tag that sets it upright."""
    exif = Image.Exif()
    exif[Base.Orientation] = TURNED_BY_90
    return Served(jpeg(picture.transpose(Image.Transpose.ROTATE_90), exif))


def _animated(picture: Image.Image) -> Served:
    """A GIF whose first frame is the picture and whose second is its mirror image."""
    frames = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    return Served(_encoded(picture, "GIF", save_all=True, append_images=frames, duration=200), suffix=".gif")


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _special_tokens(article: Article, other: Article, rng: random.Random) -> Article:
    return replace(article, texts=(*article.texts, SPECIAL_TOKENS))


def _shared_sentence(article: Article, other: Article, rng: random.Random) -> Article:
    """A second picture of the first figure's kind belongs to the same sentence."""
    first = article.figures[0]
    second = replace(first, scene=replace(first.scene, seed=rng.getrandbits(32)))
    return replace(article, figures=(*article.figures, second))


def _copied_picture(article: Article, other: Article, rng: random.Random) -> Article:
    """A picture of another article comes again as the last figure, with an address and a text of its own."""
    scene = other.figures[0].scene
    figure = Figure(scene, len(article.texts))
    return Article((*article.texts, describe(scene, rng)), (*article.figures, figure))


# Faults of the first picture of an article, as it is served.
PICTURE_FAULTS: dict[str, Callable[[Image.Image], Served]] = {
    "dead_links": _dead,
    "pages_as_images": _page,
    "truncated_images": _truncated,
    "empty_images": _empty,
    "decompression_bombs": _bomb,
    "too_small_images": _icon,
    "extreme_aspect_images": _strip,
    "opted_out_images": _opted_out,
    "logo_urls": _logo,
    "button_urls": _button,
    "exif_rotated_images": _turned,
    "animated_images": _animated,
}
# How the address of the first picture of an article is written: (base URL, address) -> raw_url.
ADDRESS_FAULTS: dict[str, Callable[[str, str], str]] = {
    "relative_urls": lambda base, url: url.removeprefix(base),
    "schemeless_urls": lambda base, url: url.removeprefix("http:"),
}
# What an article holds besides: (article, another article, random numbers) -> article.
ARTICLE_FAULTS: dict[str, Callable[[Article, Article, random.Random], Article]] = {
    "special_token_documents": _special_tokens,
    "shared_sentence_documents": _shared_sentence,
    "copied_images": _copied_picture,
}
# Faults of the page, which `corpus` writes itself: another page's content, another page's address.
PAGE_FAULTS = ("exact_duplicate_documents", "same_url_documents")

# How many of 1000 documents carry a fault; every fault is planted at least once.
SHARES_PER_1000: dict[str, float] = {
    "dead_links": 12,
    "pages_as_images": 4,
    "truncated_images": 5,
    "empty_images": 3,
    "decompression_bombs": 0.3,
    "too_small_images": 8,
    "extreme_aspect_images": 5,
    "opted_out_images": 6,
    "logo_urls": 5,
    "button_urls": 5,
    "exif_rotated_images": 8,
    "animated_images": 5,
    "relative_urls": 10,
    "schemeless_urls": 6,
    "special_token_documents": 6,
    "shared_sentence_documents": 15,
    "copied_images": 15,
    "exact_duplicate_documents": 20,
    "same_url_documents": 15,
}


@dataclass(frozen=True, slots=True)
class Planted:
    """The fault of one document, and the faultless document it copies something from."""

    fault: str
    origin: int


def plant(documents: int, seed: int) -> dict[int, Planted]:
    """Choose which documents carry which fault, at most one each.

    Raises:
        RecipeError: there are too few documents to plant every fault and leave a faultless one for each.
    """
    wanted = [
        name
        for name, share in SHARES_PER_1000.items()
        for _ in range(max(1, round(share * documents / 1000)))
    ]
    if documents < 2 * len(wanted):
        raise RecipeError(
            f"{documents} documents are too few for {len(wanted)} faults: draw {2 * len(wanted)} or more"
        )
    chosen = random.Random(f"plant/{seed}").sample(range(documents), 2 * len(wanted))
    return {
        at: Planted(name, origin)
        for name, at, origin in zip(wanted, chosen, chosen[len(wanted) :], strict=False)
    }
