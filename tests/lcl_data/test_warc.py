"""Web archives: whole, torn and quirky; pages out of them, and the pictures they bring along."""

import gzip
import io
import json
import tracemalloc
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lcl_data.carriers import Carrier
from lcl_data.download import Download, download
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from lcl_data.records import Record, Tear, records
from lcl_data.sources.warc import Warc
from lcl_data.store import facts
from schemas.errors import ImageError, RecipeError
from tests.lcl_data.archived import (
    ARC,
    ARCHIVE,
    INFO,
    LONG,
    PAGE,
    PICTURE,
    SECOND,
    SITE,
    http,
    outcomes,
    page,
    png,
    record,
    rows,
    write,
)
from tests.lcl_data.corpus import read_documents, rejects

pytest.importorskip("selectolax")
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "warc"


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_pages_become_documents_with_the_pictures_of_the_archive(tmp_path, name):
    first, second = rows(write(tmp_path / name, ARCHIVE))
    document = first.document
    assert (document.source, document.url) == ("warc", SITE + "p.html")
    meta = json.loads(document.meta)
    assert (meta["date"], meta["warc_filename"]) == ("2024-05-06T07:08:09Z", name)
    (image,) = document.images
    assert image.url == SITE + "x.png"
    assert Carrier.parse(image.carrier).read(1 << 20) == png()
    assert second.document.texts == (f"{LONG}\n\nTwo.",) and second.images == 0
    assert first.document.id != second.document.id


@pytest.mark.parametrize("name", ["a.arc", "a.arc.gz"])
def test_arc_files_are_read_alike(tmp_path, name):
    (row,) = rows(write(tmp_path / name, ARC))
    assert json.loads(row.document.meta)["date"] == "2001-02-03T04:05:06Z"
    (image,) = row.document.images
    assert Carrier.parse(image.carrier).read(1 << 20) == png()


def test_one_gzip_stream_is_read_but_carries_nothing(tmp_path):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(b"".join(ARCHIVE)))
    first, second = rows(path)
    assert first.document.images[0].carrier is None and second.document.texts


def chunked(body, size=7):
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def brotli(body):
    import brotli as library

    return library.compress(body)


def raw_deflate(body):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


ENCODINGS = {
    "chunked": (chunked, {"Transfer_Encoding": "chunked"}),
    "gzip": (gzip.compress, {"Content_Encoding": "gzip"}),
    "both": (
        lambda body: chunked(gzip.compress(body), 50),
        {"Content_Encoding": "gzip", "transfer_encoding": "Chunked"},
    ),
    "deflate": (zlib.compress, {"Content_Encoding": "deflate"}),
    "raw deflate": (raw_deflate, {"Content_Encoding": "deflate"}),
    "brotli": (brotli, {"Content_Encoding": "br"}),
    "twice": (lambda body: gzip.compress(zlib.compress(body)), {"Content_Encoding": "deflate, gzip"}),
    "identity": (bytes, {"Content_Encoding": "identity"}),
    "already plain": (bytes, {"Content_Encoding": "gzip", "Transfer_Encoding": "chunked"}),
}


@pytest.mark.parametrize("what", ENCODINGS)
def test_encodings_are_undone_in_pages_and_pictures(tmp_path, what):
    encode, headers = ENCODINGS[what]
    parts = [
        record(SITE + "p.html", http(encode(page("One.", "<img src=x.png>")), **headers)),
        record(SITE + "x.png", http(encode(png()), "image/png", **headers)),
    ]
    (row,) = rows(write(tmp_path / "a.warc.gz", parts))
    (image,) = row.document.images
    assert Carrier.parse(image.carrier).read(1 << 20) == png()


def test_nothing_inflates_beyond_its_cap(tmp_path):
    bomb = bytes(12 << 20)
    parts = [
        record(SITE, http(gzip.compress(bomb), Content_Encoding="gzip")),
        record(SITE, http(brotli(bomb), Content_Encoding="br")),
        record(SITE, http(bomb)),
        record(SITE, http(page(), Content_Encoding="compress")),
        record(SITE, http(b"\x1f\x8bnone", Content_Encoding="gzip")),
        record(SITE + "x.png", http(gzip.compress(bomb), "image/png", Content_Encoding="gzip")),
        record(SITE + "y.png", http(bomb, "image/png")),
        record(SITE + "p.html", http(page("One.", "<img src=x.png><img src=y.png>"))),
    ]
    path = write(tmp_path / "a.warc.gz", parts)
    rows(write(tmp_path / "small.warc", ARCHIVE))  # what libraries keep is no part of the measure
    tracemalloc.start()
    found = rows(path, extract={"max_nbytes": 1 << 20})
    images = found[-1].document.images
    for image in images:
        with pytest.raises(ImageError, match="too_large"):
            Carrier.parse(image.carrier).read(1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(images) == 2 and peak < 16 << 20
    assert outcomes(found) == [*["too_large"] * 3, *["bad_encoding"] * 2, "One."]


def test_a_giant_record_is_passed_by(tmp_path):
    path = tmp_path / "a.warc"
    with path.open("wb") as file:
        file.write(PAGE + b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n" % (4 << 30))
        file.seek(4 << 30, io.SEEK_CUR)
        file.write(b"\r\n\r\n" + SECOND)
    tracemalloc.start()
    assert outcomes(rows(path)) == ["One.", "Two."]
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


def test_answers_that_are_no_pages_are_counted_or_are_no_documents(tmp_path):
    parts = [
        record(SITE + "1", http(page(), status=404)),
        record(SITE + "2", http(b"", status=304, kind="")),
        record(SITE + "3", http(b"%PDF-1.4", "application/pdf")),
        record(SITE + "4", http(page("Sniffed."), "application/octet-stream")),
        record(SITE + "5", page("Resource."), "resource", Content_Type="text/html"),
        record(SITE + "6", b"HTTP/1.0 200 OK\nContent-Type: text/html\n\n" + page("Bare.")),
        record(SITE + "7", http(page(), X_Robots_Tag="somebot: noai")),
        record(SITE + "8", http(page(head="<meta name=robots content=noimageai>"))),
        record(SITE + "9", page("Headless.")),
        record(SITE + "r", b"", "revisit"),
        record(f"<{SITE}brackets>", http(page("Brackets."))),
    ]
    found = rows(write(tmp_path / "a.warc.gz", parts))
    assert outcomes(found) == [
        "http_404", "Sniffed.", "Resource.", "Bare.", "opted_out", "opted_out", "Headless.", "Brackets.",
    ]  # fmt: skip
    assert found[-1].document.url == SITE + "brackets"
    assert outcomes(rows(tmp_path / "a.warc.gz", extract={"disallowed": ["noindex"]}))[4] != "opted_out"


def test_pictures_are_found_by_their_url(tmp_path):
    tags = (
        "<img src='http://site.example/a/ü x.png#top'>",
        "<img src=x.png srcset='big.png 2000w, x.png 100w'>",
        "<img src=no.png>",
        "<img src=gone.png>",
        "<img src=lost.png>",
    )
    parts = [
        record("https://site.example/a/%C3%BC%20x.png", http(png("blue"), "image/png")),
        record(SITE + "x.png", http(png("red"), "image/png")),
        record(SITE + "x.png", http(png("green"), "image/png")),
        record(SITE + "no.png", http(png(), "image/png", X_Robots_Tag="noai")),
        record(SITE + "lost.png", http(png(), "image/png", status=404)),
        record(SITE + "p.html", http(page("One.", *tags))),
    ]
    (row,) = rows(write(tmp_path / "a.warc.gz", parts))
    assert [error.reason for error in row.lost] == ["opted_out"]
    carried = [Carrier.parse(i.carrier).read(1 << 20) if i.carrier else i.url for i in row.document.images]
    assert carried == [png("blue"), png("red"), SITE + "gone.png", SITE + "lost.png"]


def test_files_of_a_group_share_their_pictures(tmp_path):
    write(tmp_path / "a-00007.warc.gz", [INFO, PAGE])
    write(tmp_path / "a-00008.warc.gz", [PICTURE])
    assert [unit.number for unit in Warc().units(tmp_path)] == [7, 8]
    assert rows(tmp_path)[0].document.images[0].carrier is None
    (row,) = rows(tmp_path, files_per_shard=2)
    assert Carrier.parse(row.document.images[0].carrier).read(1 << 20) == png()
    with pytest.raises(RecipeError):
        Warc().units(tmp_path / "none")


def test_the_road_from_archive_to_shard_needs_no_network(tmp_path):
    src = tmp_path / "src"
    write(src / "a.warc.gz", [INFO, PAGE, PICTURE, SECOND[:-30]])
    write(src / "b.warc", [record(SITE + "r.html", http(page("Three.", "<img src=/a/x.png>")))])
    one = ingest(src, tmp_path / "docs", Ingest(format="warc"), Engine(1))
    two = ingest(src, tmp_path / "two", Ingest(format="warc"), Engine(2))
    assert one.shards == two.shards
    documents = one.ledger.documents
    assert (documents.read, documents.kept, documents.rejected) == (3, 2, {"torn_record": 1})
    assert "a.warc.gz@" in next(
        r["place"] for r in rejects(tmp_path / "docs") if r["reason"] == "torn_record"
    )
    kept = download(tmp_path / "docs", tmp_path / "images", Download(), Engine(1)).ledger.images
    assert (kept.read, kept.kept) == (2, 2)  # what one file carries serves the page of the other
    (table,) = facts(tmp_path / "images")
    assert pq.read_table(table)["url"].to_pylist() == [SITE + "x.png"]
    assert len(read_documents(tmp_path / "docs")) == 2


REAL = {
    "clipped.warc.gz": (1, {"torn_record": 1}),
    "clueweb-quirk.warc.gz": (29, None),
    "example-iana.org-chunked.warc": (1, {}),
    "example-trunc.warc": (1, {}),
    "warcfile.warc.gz": (16, None),
}


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs ../shared/samples")
@pytest.mark.parametrize("name", REAL)
def test_real_archives_are_read(tmp_path, name):
    manifest = ingest(SAMPLES / name, tmp_path / "out", Ingest(format="warc"), Engine())
    documents, images = manifest.ledger.documents, manifest.ledger.images
    read, rejected = REAL[name]
    assert documents.read == read and not manifest.failed
    assert rejected is None or documents.rejected == rejected
    for count in (documents, images):
        assert count.read == count.kept + sum(count.rejected.values())
    assert all(isinstance(r, Record | Tear) for r in records(SAMPLES / name, lambda _: 100))
