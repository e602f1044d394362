"""The pictures of a page: which addresses each has, lazy or not, and which are no pictures but decoration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lcl_data.page_tree import Attributes, Tree

# Where scripts find the address of a picture that they load late; the best first.
_LAZY = (
    "data-src", "data-original", "data-lazy-src", "data-lazy", "data-original-src", "data-orig-src",
    "data-image-src", "data-img-src", "data-img", "data-url", "data-echo", "data-actualsrc", "data-cfsrc",
    "data-hi-res-src", "data-full-src", "data-ll-src", "data-defer-src", "nitro-lazy-src",
)  # fmt: skip
_LAZY_SETS = ("srcset", "data-srcset", "data-lazy-srcset", "data-original-set", "nitro-lazy-srcset")
_SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?(?=x)|\d{1,6}(?=[wh]))([wxh])\Z")
_PIXELS = re.compile(r"\s*(\d{1,6})(?:\.\d*)?\s*(?:px)?\s*\Z", re.IGNORECASE)
_STYLE_PIXELS = re.compile(r"(?:^|;)\s*(width|height)\s*:\s*(\d{1,6})(?:\.\d*)?px", re.IGNORECASE)
_MAX_CANDIDATES = 100
# What browsers show and `download` does not decode: offered beside another format, the other one is taken.
_UNREAD = re.compile(r"avif|hei[cf]|jxl|jp2|svg")
_UNREAD_ENDING = re.compile(r"\.(?:avif|hei[cf]|jxl|jp2|svgz?)(?:[?#]|\Z)", re.IGNORECASE)
TAGS = ("img", "amp-img")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a page refers to.

    Attributes:
        addresses: as the page writes them, the best first.
        alt: alternative text.
        width: pixels that the page gives it, if it says so.
        height: likewise.
        title: of the element.
    """

    addresses: tuple[str, ...]
    alt: str | None = None
    width: int | None = None
    height: int | None = None
    title: str | None = None


def picture_at(tree: Tree, node: int, fallbacks: dict[int, int], max_width: int) -> Picture:
    """The picture of an `<img>`.

    Args:
        tree: the page.
        node: the element.
        fallbacks: `<img>` in a `<noscript>` that stands for this one, by number of this one.
        max_width: of several widths, the largest up to here is preferred.
    """
    attributes = tree.attributes[node]
    also = tree.attributes[fallbacks[node]] if node in fallbacks else {}
    readable, others = _sources(tree, node)
    sized = _ranked([*_sets(attributes), *_sets(also), *readable], max_width)
    plain = [also.get("src"), attributes.get("src")]
    single = [attributes.get(name) for name in _LAZY] + (plain if _is_late(attributes) else plain[::-1])
    addresses = [*sized, *(address.strip() for address in single if address), *_ranked(others, max_width)]
    addresses.sort(key=lambda address: bool(_UNREAD_ENDING.search(address)))
    width, height = declared_size(attributes)
    return Picture(
        tuple(dict.fromkeys(address for address in addresses if address)),
        _words(attributes.get("alt") or also.get("alt")),
        width,
        height,
        _words(attributes.get("title")),
    )


def declared_size(attributes: Attributes) -> tuple[int | None, int | None]:
    """(width, height) in pixels by attributes or style; None where not said in pixels."""
    found = {name: _pixels(attributes.get(name)) for name in ("width", "height")}
    if style := attributes.get("style"):
        for name, value in _STYLE_PIXELS.findall(style):
            found[name.lower()] = int(value)
    return found["width"], found["height"]


def fallbacks(tree: Tree) -> dict[int, int]:
    """For each `<img>` that has one: the `<img>` in the `<noscript>` beside it, which is the same picture."""
    found: dict[int, int] = {}
    for node, tag in enumerate(tree.tags):
        if tag != "noscript":
            continue
        inside = _first(tree, range(node, tree.ends[node]))
        if inside is None:
            continue
        before = _first(tree, _element_before(tree, node))
        after = _first(tree, _element_after(tree, node))
        above = tree.parents[node]
        if tree.tags[above] == "amp-img":
            found.setdefault(above, inside)
            continue
        for twin in (before, after):
            if twin is not None and twin not in found and _is_late(tree.attributes[twin]):
                found[twin] = inside
                break
    return found


def _is_late(attributes: Attributes) -> bool:
    """Whether an `<img>` waits for a script: it has no address yet, or a second one."""
    src = (attributes.get("src") or "").strip()
    return (
        not src
        or src.startswith("data:")
        or any(attributes.get(n) for n in (*_LAZY, *_LAZY_SETS[1:]))
        or ("lazy" in (attributes.get("class") or ""))
    )


def _first(tree: Tree, nodes: range) -> int | None:
    return next((i for i in nodes if tree.tags[i] in TAGS), None)


def _element_before(tree: Tree, node: int) -> range:
    """The subtree of the sibling element before."""
    above, at = tree.parents[node], node - 1
    while at > above and not (tree.tags[at] and tree.parents[at] == above):
        if not tree.tags[at] and tree.parents[at] == above and tree.texts[at].strip():
            return range(0)
        at = tree.parents[at] if tree.parents[at] > above else at - 1
    return range(at, tree.ends[at]) if at > above else range(0)


def _element_after(tree: Tree, node: int) -> range:
    """The subtree of the sibling element after."""
    above, at = tree.parents[node], tree.ends[node]
    while at < tree.ends[above] and not tree.tags[at]:
        if tree.texts[at].strip():
            return range(0)
        at += 1
    return range(at, tree.ends[at]) if at < tree.ends[above] else range(0)


def _ranked(sets: Sequence[str], max_width: int) -> list[str]:
    """The addresses of some srcsets, the best first."""
    found = {candidate for text in sets for candidate in _candidates(text)}
    return [address for address, _ in sorted(found, key=lambda c: _preference(c[1], max_width, c[0]))]


def _sources(tree: Tree, node: int) -> tuple[list[str], list[str]]:
    """What the `<source>`s of a `<picture>` offer in formats that are read, and in others."""
    readable: list[str] = []
    others: list[str] = []
    above = tree.parents[node]
    while above >= 0 and tree.tags[above] in ("source", "a", "span"):  # an end tag that somebody forgot
        above = tree.parents[above]
    if above < 0 or tree.tags[above] != "picture":
        return readable, others
    for at in range(above, tree.ends[above]):
        if tree.tags[at] == "source":
            attributes = tree.attributes[at]
            is_read = not _UNREAD.search((attributes.get("type") or "").lower())
            (readable if is_read else others).extend(_sets(attributes))
    return readable, others


def _sets(attributes: Attributes) -> list[str]:
    return [text for name in _LAZY_SETS if (text := attributes.get(name))]


def _candidates(text: str) -> list[tuple[str, int]]:
    """(address, width) of each entry of a srcset; a density counts for so many hundred pixels."""
    found: list[tuple[str, int]] = []
    rest = text[: 1 << 16]
    while len(found) < _MAX_CANDIDATES and (entry := rest.lstrip(" \t\r\n\f,").split(None, 1)):
        address, rest = entry[0], entry[1] if len(entry) > 1 else ""
        size = ""
        if address.endswith(","):
            address = address.rstrip(",")
        else:
            size, _, rest = rest.partition(",")
        if address and not address.startswith("data:"):
            found.append((address, _width(size)))
    return found


def _width(size: str) -> int:
    for word in size.split():
        if (match := _SIZE.match(word)) and match[2] != "h":
            return int(match[1]) if match[2] == "w" else int(float(match[1]) * 100)
    return 100


def _preference(width: int, max_width: int, address: str) -> tuple[bool, int, str]:
    """Sorts the largest that is not too large first, then the others from small to large."""
    return (True, width, address) if width > max_width else (False, -width, address)


def _pixels(value: str | None) -> int | None:
    match = _PIXELS.match(value) if value else None
    return int(match[1]) if match else None


def _words(text: str | None) -> str | None:
    """A text of one line; None for an empty one."""
    return " ".join(text.split()) or None if text else None
