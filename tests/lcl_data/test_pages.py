"""Pages of HTML: what is the article, what stands around it, and where its pictures are."""

import json

import pytest

from tests.lcl_data.articles import LONG, OTHER, PAGE, flat, picture, rejected, row

pytest.importorskip("selectolax")


def test_text_and_pictures_stand_in_reading_order():
    body = f"""<article><h1>A light</h1><p>{LONG}</p>
      <figure><img src="/img/a.jpg" alt=" The  tower "><figcaption>The tower in spring.</figcaption></figure>
      <p>{OTHER}</p><p>See <img src="b.png" width=400> here.</p></article>"""
    assert flat(body) == [
        f"A light\n\n{LONG}",
        "http://site.example/img/a.jpg",
        f"The tower in spring.\n\n{OTHER}\n\nSee",
        "http://site.example/blog/b.png",
        "here.",
    ]
    first, second = row(body).document.images
    assert (first.alt, second.alt) == ("The tower", None)
    assert json.loads(second.meta) == {"rendered_width": 400, "raw_url": "b.png"}


AROUND = {
    "nav": "<nav><ul><li><a href=/>Home</a><li><a href=/b>Blog</a></ul></nav>",
    "header": "<header><p>A site about towers and lamps</p><img src=logo.png></header>",
    "footer": "<footer>Copyright 2024 by the keepers. All rights reserved.</footer>",
    "role": "<div role=navigation>Go to the start, go to the end</div>",
    "class": f"<div class='widget-area sidebar-right'><p>{OTHER[:90]}</p></div>",
    "camel": "<div class=siteFooter>Imprint and other legal words of no interest</div>",
    "id": "<div id=comments><p>Nice! I have been there and I saw the lamp.</p></div>",
    "advert": "<div class='ad-slot'><p>Buy lamps now, they are cheap and good.</p><img src=ad.jpg></div>",
    "cookies": "<div id=cookie-consent>We value your privacy and use cookies.</div>",
    "script": "<script>var words = 'not text';</script><style>p { color: red }</style>",
    "hidden": "<div hidden>Not seen</div><p style='display: none'>Nor this</p><p aria-hidden=true>Nor</p>",
    "form": "<form><label>Your name</label><input name=a><textarea>Write here</textarea></form>",
    "noscript": "<noscript>Please enable JavaScript to read on.</noscript>",
    "template": "<template><p>A template of a card</p></template>",
    "svg": "<svg><title>Arrow</title><text>Up</text></svg>",
    "iframe": "<iframe src=/x>Your browser has no frames</iframe>",
    "links": "<h2>Read on</h2><ul><li><a href=1>Ten lamps of the north</a><li><a href=2>Last ship</a></ul>",
    "teasers": "<div><div><a href=1><img src=1.jpg>A story of lamps and oil</a></div>"
    "<div><a href=2><img src=2.jpg>A story of ships and rope</a></div></div>",
    "breadcrumb": "<p class=breadcrumb>You are here: towers, north</p>",
    "comment": "<!-- a remark of the author of the page -->",
}


@pytest.mark.parametrize("what", AROUND)
@pytest.mark.parametrize("inside", [True, False])
def test_what_is_no_article_is_left_out(what, inside):
    article = f"<h1>A light</h1><p>{LONG}</p><p>{OTHER}</p>"
    around = AROUND[what]
    if what == "header" and inside:
        return  # a header of an article holds its title
    body = f"<div>{article}{around}</div>" if inside else f"{around}<div>{article}</div>{around}"
    found = row(body)
    assert found.document.texts == (f"A light\n\n{LONG}\n\n{OTHER}",)
    assert not found.document.images
    assert {error.reason for error in found.lost} <= {"outside_content"}


def test_an_article_is_found_without_any_name():
    menu = "".join(f"<a href={i}>Department number {i}</a> " for i in range(20))
    body = f"""<div><div>{menu}</div><div><div><p>{LONG}</p><p>{OTHER}</p><img src=a.jpg><p>{LONG}</p></div>
      <div><p>Call us on Mondays.</p></div></div><div>Some words at the foot</div></div>"""
    assert flat(body) == [f"{LONG}\n\n{OTHER}", "http://site.example/blog/a.jpg", LONG]


def test_a_layout_of_tables_is_read_as_columns():
    menu = "<br>".join(f"<a href={i}>Department number {i} of the shop</a>" for i in range(20))
    body = f"""<table><tr><td width=150>{menu}</td>
      <td><p>{LONG}</p><img src=a.jpg><p>{OTHER}</p></td></tr></table>"""
    assert flat(body) == [LONG, "http://site.example/blog/a.jpg", OTHER]


def test_a_name_is_not_believed_of_what_holds_the_page():
    body = f"<div class=sidebar><p>{LONG}</p><p>{OTHER}</p></div>"
    assert flat(body) == [f"{LONG}\n\n{OTHER}"]
    assert flat(f"<form id=aspnetForm><p>{LONG}</p><p>{OTHER}</p></form>") == [f"{LONG}\n\n{OTHER}"]
    assert flat(f"<div class='content has-sidebar'><p>{LONG}</p></div><div><p>{OTHER}</p></div>")


@pytest.mark.parametrize(
    "box", ["<div class=sidebar>{}</div>", "<aside>{}</aside>", "<aside class=note>{}</aside>"]
)
def test_a_box_in_the_text_is_text(box):
    note = box.format("<p>The cape was named after a ship.</p>")
    assert flat(f"<div><p>{LONG}</p>{note}<p>{OTHER}</p></div>") == [
        f"{LONG}\n\nThe cape was named after a ship.\n\n{OTHER}"
    ]
    assert flat(f"<div><div><p>{LONG}</p><p>{OTHER}</p></div>{note}</div>") == [f"{LONG}\n\n{OTHER}"]


def test_sections_of_equal_kind_stay_together():
    long = f"<p>{LONG}</p>" * 12
    body = f"<div><div class=sect>{long}</div><div class=sect><p>{OTHER}</p><img src=end.jpg></div></div>"
    assert flat(body)[-1] == "http://site.example/blog/end.jpg"


def test_an_id_made_of_a_heading_is_no_name():
    body = f"<section id=search-the-menu><p>{LONG}</p></section><section><p>{OTHER}{LONG}</p></section>"
    assert flat(body) == [f"{LONG}\n\n{OTHER}{LONG}"]


def test_paragraphs_lists_tables_and_code_keep_their_shape():
    body = f"""<main><p>{LONG}<br>A second line.<br><br>A second  paragraph.</p>
      <ul><li>oil</li><li><p>wick</p><ul><li>cotton</li></ul></li></ul><ol start=3>
      <li>climb</li><li>light</li></ol>
      <table><caption>Ships</caption><tr><th>Name</th><th>Year</th></tr>
      <tr><td><p>Ann<p></td><td>1<b>9</b>10</td></tr></table>
      <pre><span>for</span> lamp in lamps:
    light(lamp)</pre><dl><dt>cape</dt><dd>a headland</dd></dl>
      <p>Euro&shy;pean&nbsp;coasts<sup>2</sup>, &lt;image&gt;</p></main>"""
    (text,) = flat(body)
    assert text == (
        f"{LONG}\nA second line.\n\nA second paragraph.\n\n- oil\n- wick\n- cotton\n\n3. climb\n4. light\n\n"
        "Ships\nName | Year\nAnn | 1910\n\nfor lamp in lamps:\n    light(lamp)\n\ncape\na headland\n\n"
        "European coasts2, <image>"
    )


LAZY = {
    "<img src=b.gif data-src=a.jpg>": "a.jpg",
    "<img src='data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP' data-original=a.jpg>": "a.jpg",
    "<img src=b.gif data-lazy-src='/x/a.jpg'>": "/x/a.jpg",
    "<img src=b.gif class=lazy><noscript><img src=a.jpg></noscript>": "a.jpg",
    "<noscript><img src=a.jpg></noscript><img data-src=a.jpg src=b.gif>": "a.jpg",
    "<noscript><img src=a.jpg></noscript>": "a.jpg",
    "<img src=s.jpg srcset='s.jpg 300w, a.jpg 1200w, huge.jpg 6000w'>": "a.jpg",
    "<img src=s.jpg srcset='s.jpg, a.jpg 2x'>": "a.jpg",
    "<img src=s.jpg srcset='a,b.jpg 2x,c.jpg 1x'>": "a,b.jpg",
    "<img data-srcset='s.jpg 300w,a.jpg 1200w' src='data:image/gif;base64,AAAA'>": "a.jpg",
    "<picture><source srcset='a.webp 900w, s.webp 300w'><img src=s.jpg></picture>": "a.webp",
    "<picture><source type=image/avif srcset='s 900w'><source srcset='a.jpg 300w'><img></picture>": "a.jpg",
    "<picture><source srcset='s.avif 900w, s.AVIF?w=9 1600w'><img src=a.jpg></picture>": "a.jpg",
    "<picture><source type=image/svg+xml srcset=s.svg><img src=a.png></picture>": "a.png",
    "<picture><source type=image/avif srcset=a.avif><img></picture>": "a.avif",
    "<picture><source data-srcset='a.webp'></source><img data-src=s.jpg></picture>": "a.webp",
    "<amp-img src=a.jpg width=300 height=200><noscript><img src=b.jpg></noscript></amp-img>": "a.jpg",
    "<a href=big.jpg><img src=a.jpg></a>": "a.jpg",
    "<image src=a.jpg>": "a.jpg",
    "<img src='../a b.jpg '>": "../a b.jpg",
    "<img src=//cdn.example/a.jpg>": "//cdn.example/a.jpg",
    "<img src='a.jpg?w=1&amp;h=2'>": "a.jpg?w=1&h=2",
}


@pytest.mark.parametrize("tag", LAZY)
def test_the_best_address_of_a_picture_is_taken(tag):
    from urllib.parse import urljoin

    assert picture(tag).url == urljoin(PAGE, LAZY[tag])


def test_base_joins_and_a_page_without_address_keeps_only_absolute_ones():
    assert (
        picture("<img src=a.jpg>", head="<base href='//cdn.example/x/'>").url == "http://cdn.example/x/a.jpg"
    )
    assert picture("<img src=a.jpg>", head="<base href=/y/>").url == "http://site.example/y/a.jpg"
    assert picture("<img src=https://h.example/a.jpg>", url=None).url == "https://h.example/a.jpg"
    assert rejected("<img src=a.jpg>", url=None) == ["bad_url"]
    canonical = "<link rel=canonical href=https://h.example/p/q>"
    assert picture("<img src=a.jpg>", head=canonical, url=None).url == "https://h.example/p/a.jpg"


def test_what_is_no_picture_is_counted():
    assert rejected("<img src=t.gif width=1 height=1>") == ["decoration"]
    assert rejected("<img src=t.gif style='width: 600px; height:3px'>") == ["decoration"]
    assert rejected("<img src=i.png width=32>") == ["decoration"]
    assert rejected("<img src=i.png width=32>", min_side_px=33) == ["decoration"]
    assert picture("<img src=i.png width=32>", min_side_px=32).url.endswith("i.png")
    assert picture("<img src=i.png width='100%' height=auto>").url.endswith("i.png")
    assert rejected("<img src='data:image/png;base64,AAAA'>") == ["data_url"]
    assert rejected("<img alt=nothing>") == ["no_address"]
    assert rejected("<img src='javascript:x'>") == ["bad_url"]
    assert rejected("<img src='http://[::1'>") == ["bad_url"]
    assert rejected("<img src=file:///etc/passwd>") == ["bad_url"]
    assert rejected("<div class=share><img src=s.png></div>") == ["outside_content"]


def test_a_sign_or_formula_is_read_as_text():
    signs = "<img class=emoji alt=\N{WATER WAVE} src=e.png> <img class='latex' alt='x^2' src=f.png>"
    body = f"<p>{LONG} {signs} so.</p>"
    found = row(body + "<p><math alttext='a+b'><mi>a</mi></math></p>")
    assert found.document.texts == (f"{LONG} \N{WATER WAVE} x^2 so.\n\na+b",)
    assert [error.reason for error in found.lost] == ["glyph", "glyph"]


def test_a_page_states_facts():
    head = """<title> A  light </title><meta name=description content="On lamps"><link rel=canonical href=/c>
      <meta property=article:published_time content=2020-05-01T00:00:00Z>
      <link rel=license href=https://creativecommons.org/licenses/by/4.0/>"""
    document = row(f"<p>{LONG}</p>", head=head).document
    assert document.license == "https://creativecommons.org/licenses/by/4.0/"
    assert json.loads(document.meta) == {
        "title": "A light",
        "canonical": "/c",
        "description": "On lamps",
        "published": "2020-05-01T00:00:00Z",
        "charset": "utf-8",
    }


@pytest.mark.parametrize("content", ["noai", "index, NoImageAI", "somebot: noai"])
def test_a_page_may_opt_out(content):
    found = row(f"<p>{LONG}</p><img src=a.jpg>", head=f"<meta name=Robots content='{content}'>")
    assert (found.document.reason, found.images) == ("opted_out", 1)
    assert row(f"<p>{LONG}</p>", robots={"noai"}).document.reason == "opted_out"
    assert row(f"<p>{LONG}</p>", robots={"noai"}, disallowed=()).document.texts == (LONG,)
    assert row(f"<p>{LONG}</p>", head="<meta name=robots content=noindex>").document.texts == (LONG,)
