"""What a page says of itself: title, language, address, licence, and whether it may be used."""

import re
from dataclasses import dataclass
from typing import Any

from lcl_data.page_tree import Attributes, Tree
from lcl_data.robots import directives

# As browsers and wget write it into a page they save.
_SAVED_FROM = re.compile(r"<!--\s*(?:saved from url=\(\d{4}\)|Mirrored from )(\S{1,2000}?)[\s>]")
_META = {
    "description": ("description", "og:description"),
    "published": ("article:published_time", "date", "dc.date", "datepublished"),
    "site_name": ("og:site_name",),
    "author": ("author", "article:author"),
}
_HEAD_CHARS = 4096
_MAX_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of a page.

    Attributes:
        title: of the page.
        lang: as the page states it.
        base: of its relative addresses, as `<base href>` has it.
        canonical: its own address, by itself.
        saved_from: where a browser saved it from.
        license: address of its licence.
        robots: directives of its robots tags.
        described: name to content of the tags that describe it.
    """

    title: str | None
    lang: str | None
    base: str | None
    canonical: str | None
    saved_from: str | None
    license: str | None
    robots: frozenset[str]
    described: dict[str, str]

    @property
    def url(self) -> str | None:
        """The address of a page that came without one."""
        told = (self.saved_from, self.canonical, self.described.get("og:url"))
        return next((url for url in told if url and url.startswith(("http://", "https://"))), None)

    def meta(self, url: str | None) -> dict[str, Any]:
        """The fields that have no column."""
        found = {name: _first(self.described, keys) for name, keys in _META.items()}
        canonical = self.canonical if self.canonical != url else None
        mine = {"title": self.title, "lang": self.lang, "canonical": canonical} | found
        return {name: value for name, value in mine.items() if value}


def facts_of(tree: Tree, html: str) -> Facts:
    """The facts of a page, given as nodes and as text."""
    described: dict[str, str] = {}
    robots = set()
    links: dict[str, str] = {}
    for tag, attributes in zip(tree.tags, tree.attributes, strict=True):
        if tag == "meta":
            name, content = _described(attributes)
            described.setdefault(name, content)
            robots |= directives([content]) if name == "robots" else set()
        elif tag in ("link", "a", "base"):
            for rel in (attributes.get("rel") or "").lower().split() if tag != "base" else ("base",):
                links.setdefault(rel, (attributes.get("href") or "").strip()[:_MAX_CHARS])
    html_node, title = tree.find("html"), tree.find("title")
    saved = _SAVED_FROM.search(html, 0, _HEAD_CHARS)
    return Facts(
        title=(tree.text(title) if title is not None else "")[:_MAX_CHARS] or described.get("og:title"),
        lang=tree.attributes[html_node].get("lang") if html_node is not None else None,
        base=links.get("base") or None,
        canonical=links.get("canonical") or None,
        saved_from=_address(saved[1]) if saved else None,
        license=links.get("license") or None,
        robots=frozenset(robots),
        described=described,
    )


def _described(attributes: Attributes) -> tuple[str, str]:
    name = attributes.get("name") or attributes.get("property") or ""
    return name.strip().lower(), " ".join((attributes.get("content") or "").split())[:_MAX_CHARS]


def _first(described: dict[str, str], keys: tuple[str, ...]) -> str | None:
    return next((described[key] for key in keys if described.get(key)), None)


def _address(saved: str) -> str:
    return saved if "://" in saved else f"http://{saved}"
