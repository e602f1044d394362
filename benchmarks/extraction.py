"""How much of an article is kept, how much around it is dropped, and whether pictures stand where they stood.

    python benchmarks/extraction.py made docs.jsonl --docs 60        documents put into six made sites
    python benchmarks/extraction.py real FOLDER --css 'div#main'     pages of a site whose article is known
    python benchmarks/extraction.py page FILE --truth ARTICLE.html   a page whose article is another file

docs.jsonl: lines of {"items": [{"type": "text", "text"} | {"type": "image", "path", "alt"}]}.
Rivals, where installed: trafilatura (include_images, XML) and resiliparse (main content, text only).
"""

import argparse
import html
import json
import random
import re
import time
from collections import Counter
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from lcl_data.pages import Extraction, Origin, located_on_the_net, row_of
from schemas.documents import Document

URL = "http://site.example/2024/05/page.html"
WORD = re.compile(r"\w+")
SIZE = re.compile(r"-\d+x\d+(?=\.\w+\Z)")  # one picture in several sizes, as WordPress names them
SECTIONS = ("World", "Local", "Sport", "Money", "Food")
LINKS = "".join(f"<li><a href=/c/{name}>{name} stories</a></li>" for name in SECTIONS)
CARD = (
    "<div class=card><a href=/r/{0}><img src=/thumb/{0}.jpg><span>{0} things nobody told you</span></a></div>"
)
CARDS = "".join(CARD.format(i) for i in range(3, 8))
WORDS_AROUND = (
    "Subscribe to our newsletter and never miss a story. We use cookies to improve your experience."
)
COMMENT = (
    "<li class=comment><p>Great post, I shared it with all my colleagues, who liked it very much.</p></li>"
)


def body(items, image, paragraph="<p>{}</p>\n"):
    return "".join(paragraph.format(html.escape(i["text"])) if "text" in i else image(i) for i in items)


def figure(item, attributes='src="{}"'):
    source = attributes.format(item["image"])
    return f'<figure><img {source} alt="{html.escape(item["alt"])}"></figure>\n'


def plain(items):
    return (
        f"<nav><ul>{LINKS}</ul></nav><article>{body(items, figure)}</article><footer>{WORDS_AROUND}</footer>"
    )


def blog(items):
    image = partial(figure, attributes='class="size-full" src="{0}" srcset="{0} 1024w, {0}?w=300 300w"')
    return f"""<div id=page class="site has-sidebar"><header id=masthead class=site-header>
      <img src=/logo.png><div class=menu><ul>{LINKS}</ul></div></header>
      <div id=content class="site-content"><div id=primary
      class=content-area><div class="post hentry"><div class=entry-meta>Posted on May 3 by admin</div>
      <div class=entry-content>{body(items, image)}
      <div class="sharedaddy">Share this: <a href=#>Twitter</a></div>
      <div class=jp-relatedposts>{CARDS}</div></div></div>
      <div id=comments><ol class=commentlist>{COMMENT * 6}</ol></div>
      </div><div id=secondary class="widget-area"><p>{WORDS_AROUND}</p><ul>{LINKS}</ul></div></div>
      <div id=colophon class=site-footer>{WORDS_AROUND}</div></div>"""


def news(items):
    blank = "data:image/gif;base64,R0lGODlhAQABAAAAACw="

    def image(item):
        lazy = f'class="lazy" src="{blank}" data-src="{item["image"]}"'
        fallback = f'<noscript><img src="{item["image"]}"></noscript>'
        return f'<div class="picture"><img {lazy} alt="{html.escape(item["alt"])}">{fallback}</div>'

    middle = len(items) // 2
    advert = "<div class='ad-slot'><p>Advertisement</p><img src=/ad/1.gif width=300 height=250></div>"
    return f"""<div class=topbar>{WORDS_AROUND}</div><nav>{LINKS}</nav><main><article>
      {body(items[:middle], image)}{advert}{body(items[middle:], image)}</article>
      <aside class=related><h3>More stories</h3>{CARDS}</aside></main><img src=/pixel.gif width=1 height=1>
      <div class="newsletter-signup"><p>{WORDS_AROUND}</p></div><footer><ul>{LINKS}</ul></footer>"""


def soup(items):
    image = partial(figure, attributes='src="{}"')
    return f"""<div class=c1><div class=c2><img src=/l.png><div>{LINKS.replace("li>", "span>")}</div></div>
      <div class=c3>
      <div class=c4>{body(items, image, "<div>{}</div>")}</div><div class=c5><div>{CARDS}</div></div></div>
      <div class=c6><span>{WORDS_AROUND}</span></div></div>"""


def tables(items):
    def image(item):
        return f'<br><img src="{item["image"]}" alt="{html.escape(item["alt"])}"><br>'

    links = LINKS.replace("li>", "b>") * 4
    return f"""<table width=100%><tr><td colspan=2><img src=/banner.gif width=468 height=60></td></tr>
      <tr><td width=160>
      <font size=2>{links}</font></td><td><font>{body(items, image, "{}<br><br>")}</font></td></tr>
      <tr><td colspan=2><font size=1>{WORDS_AROUND}</font></td></tr></table>"""


def wiki(items):
    entries = "".join(f"<li><a href=#s{i}>Section {i}</a></li>" for i in range(9))
    toc = f"<div id=toc class=toc><ul>{entries}</ul></div>"
    edit = "<span class=mw-editsection>[<a href=/e>edit</a>]</span>"
    image = partial(figure, attributes='class=mw-file-element src="{0}" srcset="{0} 2x" width=220 height=150')
    return f"""<div id=mw-page-base class=noprint></div><div id=content class=mw-body role=main>
      <div id=mw-content-text>
      <div class=mw-parser-output>{toc}{edit}{body(items, image)}</div></div>
      <div id=catlinks><a href=/k>Category</a></div>
      </div><div id=mw-navigation><div role=navigation><ul>{LINKS * 3}</ul></div></div>
      <div id=footer>{WORDS_AROUND}</div>"""


SITES = (plain, blog, news, soup, tables, wiki)


def ours(content):
    row = row_of(content, Origin("html", "0" * 32, "page", URL), Extraction(), located_on_the_net)
    if not isinstance(row.document, Document):
        return []
    return [i if isinstance(i, str) else (i.url,) for i in row.document.items]


def trafilatura(content):
    from lxml import etree
    from trafilatura import extract

    found = extract(content, url=URL, include_images=True, include_comments=False, output_format="xml")
    items = []
    for node in etree.fromstring(found.encode()).find("main").iter() if found else ():
        items += [(node.get("src"),)] if node.tag == "graphic" else [node.text or ""]
        items.append(node.tail or "")
    return items


def resiliparse(content):
    from resiliparse.extract.html2text import extract_plain_text

    return [extract_plain_text(content.decode("utf-8", "replace"), main_content=True)]


def stream(items):
    """(words, {picture: words before it}) of texts and pictures."""
    words, places = [], {}
    for item in items:
        if isinstance(item, str):
            words += WORD.findall(item.lower())
        else:
            places.setdefault(SIZE.sub("", item[0].split("?")[0].rsplit("/", 1)[-1]), len(words))
    return words, places


def around(content):
    """The words of a page that a reader may see, in the article or around it."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(content)
    tree.strip_tags(["script", "style", "noscript", "template", "head"])
    return Counter(WORD.findall(tree.body.text(separator=" ").lower()))


def score(truth, found, content):
    """Counts: words of the truth, found, of both; words around the article, and those left in what was found;
    pictures of the truth, found, of both, and in the right place.
    """
    true_words, true_places = stream(truth)
    words, places = stream(found)
    both = sum((Counter(true_words) & Counter(words)).values())
    outside = around(content) - Counter(true_words)
    kept = true_places.keys() & places.keys()
    right = sum(is_same_place(true_words, true_places[p], words, places[p]) for p in kept)
    return Counter(
        true=len(true_words),
        found=len(words),
        both=both,
        around=outside.total(),
        left=((Counter(words) - Counter(true_words)) & outside).total(),
        pictures=len(true_places),
        taken=len(places),
        kept=len(kept),
        right=right,
    )


def is_same_place(true_words, true_at, words, at):
    """Whether the three words before a picture, or the three after it, are the ones of the truth."""
    before = true_words[max(0, true_at - 3) : true_at] == words[max(0, at - 3) : at]
    return before or true_words[true_at : true_at + 3] == words[at : at + 3]


def made(arguments):
    lines = Path(arguments.source).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(random.Random(arguments.seed).sample(lines, arguments.docs)):
        items = [
            {"text": i["text"]}
            if i["type"] == "text"
            else {"image": f"/img/{number}-{k}.jpg", "alt": i.get("alt") or ""}
            for k, i in enumerate(json.loads(line)["items"])
        ]
        truth = [i["text"] if "text" in i else (i["image"],) for i in items]
        for site in SITES:
            head = "<meta charset=utf-8><title>A page of a site</title><script>var ad = 1;</script>"
            yield (
                site.__name__,
                f"<!doctype html><head>{head}</head><body>{site(items)}</body>".encode(),
                truth,
            )


def real(arguments):
    from selectolax.lexbor import LexborHTMLParser

    paths = sorted(Path(arguments.source).rglob("*.html"))
    for path in random.Random(arguments.seed).sample(paths, min(arguments.docs, len(paths))):
        content = path.read_bytes()
        tree = LexborHTMLParser(content)
        tree.strip_tags(["script", "style"])
        article = tree.css_first(arguments.css)
        if article is None:
            continue
        for apart in article.css(arguments.apart) if arguments.apart else ():
            apart.decompose()
        truth = told(article)
        if sum(len(WORD.findall(t)) for t in truth if isinstance(t, str)) >= 50:
            yield path.parent.name if arguments.by_folder else "pages", content, truth


def told(article):
    """Texts and pictures of an element, in order."""
    return [
        (n.attributes.get("src") or "",) if n.tag == "img" else n.text_content or ""
        for n in article.traverse(include_text=True)
        if n.tag in ("img", "-text")
    ]


def page(arguments):
    from selectolax.lexbor import LexborHTMLParser

    article = LexborHTMLParser(Path(arguments.truth).read_bytes())
    yield "page", Path(arguments.source).read_bytes(), told(article.body)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["made", "real", "page"])
    parser.add_argument("source")
    parser.add_argument("--docs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--css", default="main", help="where the article of a real page is")
    parser.add_argument("--apart", default="", help="what in it is none of it")
    parser.add_argument("--by-folder", action="store_true")
    parser.add_argument("--truth", default="", help="file that holds the article of the page")
    arguments = parser.parse_args()
    pages = list({"made": made, "real": real, "page": page}[arguments.what](arguments))
    print(f"{len(pages)} pages, {sum(len(c) for _, c, _ in pages) / 1e6:.1f} MB")
    columns = (
        ("text kept", 10),
        ("of it true", 11),
        ("around dropped", 15),
        ("pictures", 9),
        ("of it true", 11),
        ("in place", 9),
    )
    print(" " * 24 + "".join(f"{name:>{width}}" for name, width in columns) + f"{'pages/CPU-s':>12}")
    for extract in (ours, *(f for f in (trafilatura, resiliparse) if find_spec(f.__name__))):
        extract(pages[0][1])
        counts, seconds = {}, Counter()
        for site, content, truth in pages:
            start = time.process_time()
            found = extract(content)
            seconds["all"] += time.process_time() - start
            for name in (site, "all"):
                counts.setdefault(name, Counter()).update(score(truth, found, content))
        for name, n in counts.items():
            share = [
                n["both"] / max(1, n["true"]),
                n["both"] / max(1, n["found"]),
                1 - n["left"] / max(1, n["around"]),
                n["kept"] / max(1, n["pictures"]),
            ]
            share += [n["kept"] / max(1, n["taken"]), n["right"] / max(1, n["pictures"])]
            figures = "".join(
                f"{value:>{width}.1%}"
                for value, width in zip(share, (width for _, width in columns), strict=True)
            )
            speed = f"{len(pages) / seconds['all']:12.0f}" if name == "all" else ""
            print(f"{extract.__name__:14}{name:10}{figures}{speed}")


if __name__ == "__main__":
    main()
