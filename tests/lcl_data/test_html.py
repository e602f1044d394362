"""Folders of pages: groups, pictures beside them, and no way out of the folder."""

import json
import os
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image as Pixels

from lcl_data.carriers import Carrier
from lcl_data.download import Download, download
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from lcl_data.sources.html import Html
from lcl_data.store import facts
from schemas.documents import Document
from schemas.errors import RecipeError
from tests.lcl_data.corpus import read_documents, rejects

pytest.importorskip("selectolax")
SAMPLE = Path(__file__).parents[3] / "shared" / "samples" / "html"
LONG = (
    "The keeper climbed the stairs every evening and lit the lamp before the first ship came round the cape."
)


def page(*tags, head=""):
    return f"<html><head>{head}</head><body><p>{LONG}</p>{''.join(tags)}<p>{LONG}</p></body></html>"


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Pixels.new("RGB", (40, 30), content).save(path)
        else:
            path.write_text(content)
    return folder


def rows(src, **options):
    source = Html(**options)
    return [row for unit in source.units(src) for row in source.read(unit)]


def images(src, **options):
    (row,) = rows(src, **options)
    assert isinstance(row.document, Document)
    return row.document.images, [error.reason for error in row.lost]


def carried(image):
    return Carrier.parse(image.carrier).path if image.carrier else None


def test_a_picture_beside_the_page_is_carried(tmp_path):
    src = write(
        tmp_path / "www",
        a__page_html=page(
            "<img src='../img/x y.png#top'>",
            "<img src=../img/x%20y.png?v=2>",
            "<img src='/img/x y.png'>",
            "<img src=b.png srcset='http://far.example/b.png 900w'>",
            "<img src=http://far.example/c.png>",
        ),
        a__b_png="blue",
        **{"img__x y_png": "red"},
    )
    found, lost = images(src)
    red, blue = str((src / "img/x y.png").resolve()), str((src / "a/b.png").resolve())
    assert [(image.url, carried(image)) for image in found] == [
        ("carried:www/img/x y.png", red),
        ("carried:www/img/x y.png", red),
        ("carried:www/img/x y.png", red),
        ("carried:www/a/b.png", blue),
        ("http://far.example/c.png", None),
    ]
    assert lost == []
    assert json.loads(found[0].meta) == {"raw_url": "../img/x y.png#top"}


def test_a_page_that_knows_its_address_has_urls(tmp_path):
    head = "<link rel=canonical href=https://site.example/a/page.html>"
    src = write(tmp_path, page_html=page("<img src=x.png><img src=y.png>", head=head), x_png="red")
    (x, y), _ = images(src)
    assert (x.url, y.url) == (f"carried:{src.name}/x.png", "https://site.example/a/y.png")
    assert (carried(x), y.carrier) == (str((src / "x.png").resolve()), None)
    saved = "<!-- saved from url=(0030)https://other.example/b/c.html -->"
    write(tmp_path, page_html=saved + page("<img src=y.png>"))
    ((y,), _) = images(src)
    assert y.url == "https://other.example/b/y.png"


def test_saved_pages_of_one_site_keep_their_own_pictures(tmp_path):
    """Browsers put them into folders of one name beside each page."""
    saved = "<!-- saved from url=(0030)https://site.example/b/c.html -->" + page(
        "<img src=index.files/1.png>"
    )
    files = {f"{n}__index_html": saved for n in "xy"} | {"x__index_files__1_png": "red"}
    src = write(tmp_path, **files, y__index_files__1_png="blue")
    found = [image for row in rows(src) for image in row.document.images]
    assert len({image.url for image in found}) == len({carried(image) for image in found}) == 2


def test_a_page_that_is_a_link_out_of_the_folder_is_not_read(tmp_path):
    src = write(tmp_path / "www", a_html=page("<img src=x.png>"), x_png="red")
    (tmp_path / "secret.html").write_text("<p>a secret of this machine</p>")
    (src / "b.html").symlink_to(tmp_path / "secret.html")
    (src / "c.html").symlink_to(src / "a.html")
    a, b, c = rows(src)
    assert b.document.reason == "outside_folder" and len(c.document.images) == len(a.document.images) == 1


def test_a_name_that_is_no_text_is_told_before_any_work(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.html")).write_text("<p>a</p>")
    with pytest.raises(RecipeError, match="name is not UTF-8; rename"):
        Html().units(tmp_path)


def test_the_folder_may_have_an_address(tmp_path):
    tags = "<img src=http://site.example/www/x.png><img src=../y.png>"
    src = write(tmp_path, a__page_html=page(tags), x_png="red")
    ((x, y), _) = images(src, base_url="http://site.example/www/")
    assert (x.url, carried(x)) == ("http://site.example/www/x.png", str((src / "x.png").resolve()))
    assert y.url == "http://site.example/www/y.png"
    assert rows(src, base_url="http://site.example/www/")[0].document.url.endswith("/www/a/page.html")
    with pytest.raises(RecipeError, match="base_url"):
        Html(base_url="site.example").units(src)


def test_no_way_leads_out_of_the_folder(tmp_path):
    write(tmp_path, secret_png="red")
    tags = [
        "<img src=../../secret.png>",
        "<img src=%2e%2e/%2e%2e/secret.png>",
        f"<img src={tmp_path}/secret.png>",
        f"<img src=file://{tmp_path}/secret.png>",
        "<img src=link.png>",
        "<img src=linked/secret.png>",
        "<img src=..%5c..%5csecret.png>",
        "<img src=gone.png>",
        "<img src=.>",
        f"<img src={'x' * 5000}>",
        "<img src='a%00b.png'>",
        f"<img src={'y' * 300}.png>",
        "<img src=loop.png>",
        "<img src='carried:www/secret.png'>",
    ]
    src = write(tmp_path / "www", a__page_html=page(*tags))
    (src / "a/link.png").symlink_to(tmp_path / "secret.png")
    (src / "a/linked").symlink_to(tmp_path)
    (src / "a/loop.png").symlink_to(src / "a/loop.png")
    found, lost = images(src)
    assert not found
    assert lost == [
        *["outside_folder"] * 2,
        "missing_file",  # an absolute path starts at the folder
        "bad_url",
        *["outside_folder"] * 2,
        *["missing_file"] * 7,
        "bad_url",
    ]


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs ../shared/samples")
def test_the_article_of_a_real_page_is_what_another_program_took_for_it(tmp_path):
    """A page of WordPress with a menu, a feed of Facebook and a footer, and magic-html's extraction of it."""
    from selectolax.lexbor import LexborHTMLParser

    article = LexborHTMLParser((SAMPLE / "demo_magic-html_extraction.html").read_bytes()).body
    (tmp_path / "www").mkdir()
    (tmp_path / "www/page.html").write_bytes((SAMPLE / "demo_origin_page.html").read_bytes())
    (row,) = rows(tmp_path / "www")
    words = re.findall(r"\w+", " ".join(row.document.texts))
    truth = re.findall(r"\w+", article.text(separator=" "))
    both = (Counter(words) & Counter(truth)).total()
    assert both >= 0.99 * len(truth) and both >= 0.99 * len(words)
    sized = re.compile(r"(-\d+x\d+)?\.\w+$")
    taken = [sized.sub("", image.url.rpartition("/")[2]) for image in row.document.images]
    wanted = [sized.sub("", image.attributes["src"].rpartition("/")[2]) for image in article.css("img")]
    assert taken[: len(wanted)] == wanted and len(taken) <= len(wanted) + 1
    assert row.images == len(taken) + len(row.lost) == 16


def test_files_are_grouped_and_named_by_themselves(tmp_path):
    for number in range(5):
        write(tmp_path, **{f"p{number}_html": page(f"<b>{number}</b>")})
    write(tmp_path, sub__q_htm=page(), _hidden_html="", notes_txt="no page", x_xhtml=page())
    (tmp_path / ".hidden.html").write_text(page())
    units = Html(files_per_shard=3).units(tmp_path)
    names = [path.name for unit in units for path in unit.payload.paths]
    assert [len(unit.payload.paths) for unit in units] == [3, 3, 1] and ".hidden.html" not in names
    ids = {row.place: row.document.id for row in rows(tmp_path, files_per_shard=3)}
    assert ids == {row.place: row.document.id for row in rows(tmp_path)}
    assert len(set(ids.values())) == 7
    with pytest.raises(RecipeError, match="no file that ends in"):
        Html().units(write(tmp_path / "none", a_txt="x"))


def test_ingest_counts_pages_and_makes_only_changed_groups_again(tmp_path):
    src = write(
        tmp_path / "www",
        a_html=page("<img src=x.png><img src=gone.png>"),
        b_html="<nav>Home</nav><img width=1 height=1>",
        c_html=page(head="<meta name=robots content=noai>"),
        x_png="red",
    )
    settings = Ingest(format="html", source={"files_per_shard": 2})
    one = ingest(src, tmp_path / "one", settings, Engine(1))
    assert one.ledger.documents.rejected == {"no_content": 1, "opted_out": 1}
    assert (one.ledger.documents.read, one.ledger.images.read) == (3, 3)
    assert one.ledger.images.rejected == {"missing_file": 1, "document_rejected": 1}
    assert one.shards == ingest(src, tmp_path / "two", settings, Engine(2)).shards
    assert {row["reason"] for row in rejects(tmp_path / "one")} >= {"missing_file", "opted_out"}
    before = {shard.name: (tmp_path / "one" / shard.name).stat().st_mtime_ns for shard in one.shards}
    write(src, c_html=page())
    again = ingest(src, tmp_path / "one", settings, Engine(1))
    assert again.ledger.documents.kept == 2
    after = {shard.name: (tmp_path / "one" / shard.name).stat().st_mtime_ns for shard in again.shards}
    assert [name for name in after if after[name] == before[name]] == ["00000.parquet"]


def test_download_reads_carried_pictures_without_a_network(tmp_path):
    src = write(tmp_path / "www", a_html=page("<img src=x.png>"), b_html=page("<img src=x.png>"), x_png="red")
    ingest(src, tmp_path / "docs", Ingest(format="html"), Engine(1))
    assert [len(document.images) for document in read_documents(tmp_path / "docs")] == [1, 1]
    manifest = download(tmp_path / "docs", tmp_path / "images", Download(), Engine(1))
    assert (manifest.ledger.images.read, manifest.ledger.images.kept) == (2, 2)
    (table,) = facts(tmp_path / "images")
    (row,) = pq.read_table(table).to_pylist()
    assert (row["url"], row["original_width"]) == ("carried:www/x.png", 40)
