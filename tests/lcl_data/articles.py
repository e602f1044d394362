"""Pages written by hand, and the items that they become."""

import pytest

from lcl_data.pages import Extraction, Origin, located_on_the_net, row_of
from schemas.documents import Document

pytest.importorskip("selectolax")
PAGE = "http://site.example/blog/post.html"
LONG = (
    "The lighthouse keeper climbed the stairs every evening, counted the steps aloud, and lit the lamp before"
    " the first ship of the night came round the cape."
)
OTHER = (
    "In winter the storms came from the north, and then nobody could reach the island for weeks, so the"
    " stores had to be full by the end of October at the latest."
)


def row(body, head="", url=PAGE, charset=None, robots=(), **options):
    html = body
    if isinstance(body, str):
        html = f"<html><head>{head}</head><body>{body}</body></html>".encode()
    origin = Origin("html", "0" * 32, "page", url, charset, frozenset(robots))
    found = row_of(html, origin, Extraction(**options), located_on_the_net)
    if isinstance(found.document, Document):
        assert found.images == len(found.document.images) + len(found.lost)
    return found


def items(body, **options):
    return row(body, **options).document.items


def flat(body, **options):
    """Texts as they are, pictures as their addresses."""
    return [item if isinstance(item, str) else item.url for item in items(body, **options)]


def picture(tag, **options):
    (image,) = row(f"<article><p>{LONG}</p>{tag}<p>{OTHER}</p></article>", **options).document.images
    return image


def rejected(tag, **options):
    found = row(f"<article><p>{LONG}</p>{tag}<p>{OTHER}</p></article>", **options)
    assert not found.document.images
    return [error.reason for error in found.lost]
