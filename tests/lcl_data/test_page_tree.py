"""Pages as bytes: charsets, empty and endless ones, and whatever strangers nest; every picture is counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import SourceError
from tests.lcl_data.articles import LONG, flat, row

pytest.importorskip("selectolax")


def test_charsets_are_told_stated_or_guessed():
    russian = "Смотритель маяка каждый вечер поднимался по лестнице и зажигал лампу. " * 3
    page = f"<p>{russian}</p>"
    meta = b"<meta charset=windows-1251>"
    for content, charset in [
        (page.encode(), None),
        (page.encode("cp1251"), "windows-1251"),
        (meta + page.encode("cp1251"), None),
        (meta + page.encode("cp1251"), "utf-8"),  # a server that is wrong
        (page.encode("cp1251"), "no-such-charset"),
        (page.encode("koi8-r"), None),
        (b"\xef\xbb\xbf" + page.encode(), "latin-1"),
        (b"\xff\xfe" + page.encode("utf-16-le"), None),
    ]:
        assert row(content, charset=charset).document.texts == (russian.strip(),)
    torn = "<meta charset=utf-8><p>" + "ü" * 2000
    assert "ü" * 1999 in row(torn.encode()[:-1] + b"\xff").document.texts[0]


@pytest.mark.parametrize(
    "body", ["", "<p>", "<nav>Home</nav>", "<img>", "<ul><li><a href=1>One page of many</a></ul>"]
)
def test_a_page_of_nothing_is_rejected(body):
    found = row(body)
    assert (found.document.reason, found.images) == ("no_content", body.count("<img"))


def test_pages_that_would_keep_a_parser_busy_are_rejected():
    assert row("<div>" * 30_000).document.reason == "too_deep"
    assert row("<p " + " ".join(f"a{i}=1" for i in range(20_000)) + ">").document.reason == "too_deep"
    assert row("x" * 200, max_nbytes=100).document.reason == "too_large"
    deep = "<div>" * 900 + f"<p>{LONG}</p>" + "<img src=a.jpg>"
    assert flat(deep) == [LONG, "http://site.example/blog/a.jpg"]


def test_xhtml_may_close_an_element_at_once():
    head = "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title/></head>"
    html = f"{head}<body><a name='x'/><p>{LONG}</p></body></html>"
    assert row(html.encode()).document.texts == (LONG,)


NAMES = "div p table tr td ul li a b noscript picture pre nav article h1 math svg figure template select body"
ODDITIES = [
    "<img>",
    "<img src=a.jpg>",
    "<img data-src=b.jpg srcset='x 1w, , ,y 2x'>",
    "<source srcset=c.jpg>",
    "<base href='http://['>",
    "<meta name=robots content=noai>",
    *("<br>", "<!--", "-->", "&#0;", "\0", "\ud800", "<", " ", LONG),
]
TAGS = [f"<{tag}>" for name in NAMES.split() for tag in (name, f"/{name}", f"{name} class='nav ads' href=x")]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(TAGS + ODDITIES), max_size=60), st.binary(max_size=20))
def test_no_page_raises_and_every_picture_is_counted(parts, noise):
    found = row("".join(parts).encode("utf-8", "surrogatepass") + noise)
    if isinstance(found.document, SourceError):
        assert not found.lost
    else:
        assert found.document.items and all(text.strip() for text in found.document.texts)


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([None, "utf-8", "shift_jis", "utf-16", "idna", "x"]))
def test_bytes_of_any_kind_are_counted(content, charset):
    row(content, charset=charset)
