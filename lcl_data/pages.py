"""A page of HTML to the items of a document: its article's text and pictures in reading order.

What counts as an image reference of a page: every `<img>` and `<amp-img>` of its body; one in a `<noscript>`
that repeats the lazy one beside it counts with that one. Each becomes an item or a rejection with a reason.
Frames, CSS backgrounds, SVG, video posters and buttons of forms are no references.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

from pydantic import Field

from lcl_data.links import resolved
from lcl_data.page_content import content_of
from lcl_data.page_facts import Facts, facts_of
from lcl_data.page_flow import Flow, glyph_of
from lcl_data.page_pictures import TAGS, Picture, fallbacks, picture_at
from lcl_data.page_tree import Tree, decode, parse
from lcl_data.sources import Row, dump
from schemas.documents import Document, Image, Item
from schemas.errors import RecipeError, SourceError
from schemas.recipe import Settings


class Extraction(Settings):
    """What of a page is taken."""

    max_nbytes: int = Field(8 << 20, gt=0, description="a larger page is rejected unread")
    min_side_px: int = Field(
        33,
        ge=0,
        description="a picture whose page gives it a smaller width or height is decoration: tracking pixels,"
        " spacers, icons (up to 32 pixels by custom)",
    )
    max_width: int = Field(
        2048, gt=0, description="of a picture offered in several widths, the largest up to here is preferred"
    )
    disallowed: tuple[str, ...] = Field(
        ("noai", "noimageai"), description="directives of robots tags and headers that are a no to the page"
    )


class Located(NamedTuple):
    """Where a picture is: its absolute URL, where its bytes lie if they are at hand, as the page wrote it."""

    url: str
    carrier: str | None
    raw: str


Locate = Callable[[tuple[str, ...], str | None], Located]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a page comes from.

    Attributes:
        name: of the source, such as warc.
        id: of the document it becomes.
        place: upstream file and place, for the rejects.
        url: address of the page, where known.
        charset: that the server told.
        robots: directives of its X-Robots-Tag headers.
        license: of the annotations, unless the page states its own.
        meta: upstream fields without a column.
    """

    name: str
    id: str
    place: str
    url: str | None = None
    charset: str | None = None
    robots: frozenset[str] = frozenset()
    license: str | None = None
    meta: dict[str, Any] | None = None


def need_libraries() -> None:
    """See that what reads pages is there, before any work.

    Raises:
        RecipeError: the extra is not installed.
    """
    if missing := [name for name in ("selectolax", "resiliparse", "brotli") if find_spec(name) is None]:
        raise RecipeError(f"pages of HTML need {', '.join(missing)}: pip install 'lcl[html]'")


def row_of(content: bytes, origin: Origin, settings: Extraction, locate: Locate) -> Row:
    """The row that a page becomes.

    Args:
        content: bytes of the page.
        origin: where it comes from.
        settings: what is taken.
        locate: finds a picture among its addresses, given the base URL of the page; raises `SourceError`
            where there is none.
    """
    if len(content) > settings.max_nbytes:
        error = SourceError("too_large", f"{len(content)} bytes")
        return Row(origin.place, 0, 0, error)
    try:
        html, charset = decode(content, origin.charset)
        tree = parse(html)
    except SourceError as error:
        return Row(origin.place, len(content), 0, error)
    return _Page(tree, origin, settings, locate, facts_of(tree, html)).row(len(content), charset)


class _Page:
    """One page under way."""

    def __init__(
        self, tree: Tree, origin: Origin, settings: Extraction, locate: Locate, facts: Facts
    ) -> None:
        self._tree, self._origin, self._settings, self._locate = tree, origin, settings, locate
        self._facts = facts
        self._url = origin.url or facts.url
        self._base = resolved(facts.base, self._url) if facts.base else self._url
        self._twins = fallbacks(tree)
        merged = frozenset(self._twins.values())
        self._references = [i for i, tag in enumerate(tree.tags) if tag in TAGS and i not in merged]

    def row(self, nbytes: int, charset: str) -> Row:
        place, images = self._origin.place, len(self._references)
        no = (self._origin.robots | self._facts.robots).intersection(self._settings.disallowed)
        if no:
            return Row(place, nbytes, images, SourceError("opted_out", f"robots: {min(no)}"))
        items, lost = self._items()
        if not items:
            return Row(place, nbytes, images, SourceError("no_content", "no text and no picture of its own"))
        meta = (self._origin.meta or {}) | self._facts.meta(self._url) | {"charset": charset}
        document = Document(
            self._origin.id,
            self._origin.name,
            items,
            self._url,
            self._facts.license or self._origin.license,
            dump(meta),
        )
        return Row(place, nbytes, images, document, lost)

    def _items(self) -> tuple[tuple[Item, ...], tuple[SourceError, ...]]:
        content = content_of(self._tree)
        items: list[Item] = []
        lost: dict[int, SourceError] = {}
        for found in Flow(self._tree, content, frozenset(self._twins.values())):
            if isinstance(found, str):
                items.append(found)
                continue
            try:
                items.append(self._image(found))
                lost[found] = _KEPT
            except SourceError as error:
                lost[found] = error
        errors = (lost.get(node) or self._outside(node) for node in self._references)
        return _joined(items), tuple(error for error in errors if error is not _KEPT)

    def _outside(self, node: int) -> SourceError:
        return SourceError("outside_content", (self._tree.attributes[node].get("src") or "")[:200])

    def _image(self, node: int) -> Image:
        picture = picture_at(self._tree, node, self._twins, self._settings.max_width)
        if glyph := glyph_of(self._tree, node):
            raise SourceError("glyph", f"read as text: {glyph[:200]}")
        sides = [side for side in (picture.width, picture.height) if side is not None]
        if min(sides, default=self._settings.min_side_px) < self._settings.min_side_px:
            raise SourceError("decoration", f"{picture.width} x {picture.height}: {_first(picture)}")
        addresses = tuple(a for a in picture.addresses if not a[:5].lower().startswith("data:"))
        if not addresses:
            reason = "data_url" if picture.addresses else "no_address"
            raise SourceError(reason, _first(picture)[:60])
        return _image(picture, self._locate(addresses, self._base))


_KEPT = SourceError("kept")


def located_on_the_net(addresses: tuple[str, ...], base: str | None) -> Located:
    """The best address that means something.

    Raises:
        SourceError: `bad_url`.
    """
    for raw in addresses:
        if url := resolved(raw, base):
            return Located(url, None, raw)
    raise SourceError("bad_url", addresses[0][:200])


def _image(picture: Picture, located: Located) -> Image:
    facts = {
        "title": picture.title,
        "rendered_width": picture.width,
        "rendered_height": picture.height,
        "raw_url": located.raw if located.raw != located.url else None,
    }
    meta = dump({name: value for name, value in facts.items() if value is not None})
    return Image(url=located.url, alt=picture.alt, meta=meta, carrier=located.carrier)


def _first(picture: Picture) -> str:
    return picture.addresses[0][:200] if picture.addresses else ""


def _joined(items: list[Item]) -> tuple[Item, ...]:
    """Texts between which no picture was kept become one."""
    found: list[Item] = []
    for item in items:
        if found and isinstance(item, str) and isinstance(found[-1], str):
            found[-1] = f"{found[-1]}\n\n{item}"
        else:
            found.append(item)
    return tuple(found)
