"""WebDataset tars as a source: pairs and interleaved samples, pictures left where they lie."""

import hashlib
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from webdataset import tariterators

from lcl_data.download import Download, download
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from lcl_data.sources.webdataset import Webdataset
from schemas.documents import Document, Image
from tests.lcl_data.corpus import bytes_of, read_documents
from tests.lcl_data.tarred import PICTURES, content, read, write

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "webdataset"


def test_a_pair_is_its_picture_where_it_lies_and_its_caption(tmp_path):
    fact = {
        "url": "http://h.example/a.jpg",
        "status": "success",
        "width": 16,
        "original_width": 640,
        "original_height": 480,
        "similarity": 0.25,
        "punsafe": 0.125,
        "caption": "as fetched",
    }
    (row,) = read(
        tmp_path, ("a/one.jpg", PICTURES[0]), ("a/one.json", json.dumps(fact)), ("a/one.txt", "a boat"),
        ("a/one.cls", "3"), ("a/one.npy", b"\0"),
    )  # fmt: skip
    image, text = row.document.items
    assert text == "a boat"
    assert content(image) == PICTURES[0]
    assert (image.url, image.width, image.height, image.anchor) == (fact["url"], 640, 480, 0)
    assert image.similarity == 0.25
    assert json.loads(image.meta) == {
        "status": "success",
        "width": 16,
        "punsafe": 0.125,
        "caption": "as fetched",
    }
    assert json.loads(row.document.meta) == {"key": "a/one", "cls": "3", "members": ["a/one.npy"]}
    assert (row.place, row.images) == ("00007.tar!a/one", 1)


@pytest.mark.parametrize(
    ("members", "caption"),
    [
        ([("a.png", b"x"), ("a.json", '{"caption": "from json"}')], "from json"),
        ([("a.txt", "before"), ("a.webp", b"x")], "before"),
        ([("a.jpg", b"x"), ("a.text", "été\n")], "été\n"),
        ([("a.JPG", b"x"), ("a.TXT", "upper case")], "upper case"),
        ([("a.jpg", b"x"), ("a.txt", " "), ("a.json", '{"text": "t"}')], "t"),
    ],
)
def test_captions_are_found_where_they_are_written(tmp_path, members, caption):
    (row,) = read(tmp_path, *members)
    assert row.document.texts == (caption,)
    name, at = next((name, 1024 * n + 512) for n, (name, content) in enumerate(members) if content == b"x")
    assert row.document.images[0].url == f"carried:00007.tar/{name}@{at}"


@pytest.mark.parametrize("ending", ["md", ".MD", "alt.md"])
def test_a_caption_may_have_any_ending_that_is_asked_for(tmp_path, ending):
    part = ending.lower().removeprefix(".")
    members = [("a.jpg", b"x"), (f"a.{part}", "as asked"), ("a.txt", "by default")]
    (row,) = read(tmp_path, *members, source=Webdataset(caption_parts=(ending, "txt")))
    assert row.document.texts == ("as asked",)
    assert json.loads(row.document.meta) == {"key": "a", "txt": "by default"}


def test_pairs_of_one_page_keep_their_own_pictures(tmp_path):
    """Unless img2dataset fetched them by it, the `url` of two samples may be that of the page of both."""
    fact = json.dumps({"url": "http://h.example/page"})
    pairs = [(f"{n}.{part}", value) for n in (0, 1) for part, value in
             (("jpg", PICTURES[n]), ("txt", str(n)), ("json", fact))]  # fmt: skip
    images = [row.document.images[0] for row in read(tmp_path, *pairs)]
    assert images[0].url != images[1].url and all(image.url.startswith("carried:") for image in images)
    assert [json.loads(image.meta)["url"] for image in images] == ["http://h.example/page"] * 2


def test_several_pictures_of_a_key_stand_in_the_order_of_the_tar(tmp_path):
    named = [(f"k.{n}.jpg", PICTURES[n]) for n in (2, 0, 1)]
    (row,) = read(tmp_path, *named, ("k.txt", "three"), ("k.json", '{"url": "http://h/x", "n": 1}'))
    assert [content(image) for image in row.document.images] == [PICTURES[2], PICTURES[0], PICTURES[1]]
    assert isinstance(row.document.items[-1], str)
    assert {image.anchor for image in row.document.images} == {0}
    assert json.loads(row.document.meta) == {"key": "k", "url": "http://h/x", "n": 1}


def link(kind):
    info = tarfile.TarInfo("b.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("members", "reason", "images"),
    [
        ([("b.jpg", b"x")], "no_caption", 1),
        ([("b.txt", "x")], "no_picture", 0),
        ([("b.jpg", b"x"), ("b.txt", " ")], "no_caption", 1),
        ([("b.jpg", b"x"), ("b.cls", "4")], "no_caption", 1),
        ([("b.jpg", b"x"), ("b.txt", b"\xff")], "not_utf8", 1),
        ([("b.jpg", b"x"), ("b.json", "{"), ("b.txt", "x")], "broken_json", 1),
        ([("b.jpg", b"x"), ("b.json", "[1]"), ("b.txt", "x")], "not_an_object", 1),
        ([("b.jpg", b"x"), ("b.jpg", b"y"), ("b.txt", "x")], "repeated_member", 1),
        ([("b.jpg", b"x"), ("b.txt", "x" * 100)], "line_too_long", 1),
        ([("b.jpg", link(tarfile.SYMTYPE)), ("b.txt", "x")], "link", 1),
        ([("b.jpg", link(tarfile.LNKTYPE)), ("b.txt", "x")], "link", 1),
        ([("b.01.jpg", b"x"), ("b.01.txt", "x"), ("b.02.jpg", b"x"), ("b.02.txt", "x")], "dotted_keys", 2),
        ([("b.json", '{"texts": ["a"], "images": []}')], "mismatched_lengths", 0),
    ],
)
def test_a_sample_that_is_no_document_is_rejected(tmp_path, members, reason, images):
    around = [("a.jpg", b"x"), ("a.txt", "x")], [("c.jpg", b"x"), ("c.txt", "x")]
    rows = read(tmp_path, *around[0], *members, *around[1], source=Webdataset(max_text_nbytes=50))
    assert [isinstance(row.document, Document) for row in rows] == [True, False, True]
    assert (rows[1].document.reason, rows[1].images) == (reason, images)


def test_settings_take_keys_with_dots_and_other_captions(tmp_path):
    members = [("v1.01.jpg", b"x"), ("v1.01.txt", "one"), ("v1.02.jpg", b"x"), ("v1.02.txt", "two")]
    rows = read(tmp_path, *members, source=Webdataset(key="last_dot"))
    assert [row.document.texts for row in rows] == [("one",), ("two",)]
    (row,) = read(tmp_path, ("a.jpg", b"x"), ("a.cls", "4"), source=Webdataset(caption_parts=("cls",)))
    assert row.document.texts == ("4",)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_either_dialect(tmp_path, kind):
    name = "папка/" + "n" * 200
    (row,) = read(tmp_path, (f"{name}.jpg", PICTURES[0]), (f"{name}.txt", "x"), kind=kind)
    assert json.loads(row.document.meta)["key"] == name
    assert content(row.document.images[0]) == PICTURES[0]


def test_interleaved_samples_keep_their_order(tmp_path):
    fields = {
        "texts": ["a", None, "<image>", "b", None, None, ""],
        "images": [None, "2345ew.jpg", "s.1.jpg", None, "http://h.example/x.jpg", "gone.jpg", None],
        "url": "http://page.example/",
        "n": 1,
    }
    (row,) = read(
        tmp_path,
        ("d/s.2345EW.jpg", PICTURES[0]),
        ("d/s.json", json.dumps(fields)),
        ("d/s.1.jpg", PICTURES[1]),
    )
    kinds = [item if isinstance(item, str) else item.url.partition("@")[0] for item in row.document.items]
    assert kinds == ["a", "carried:00007.tar/d/s.2345EW.jpg", "carried:00007.tar/d/s.1.jpg", "b",
                     "http://h.example/x.jpg", ""]  # fmt: skip
    assert [content(image) for image in row.document.images[:2]] == PICTURES[:2]
    assert ([error.reason for error in row.lost], row.images) == (["missing_member"], 4)
    assert (row.document.url, json.loads(row.document.meta)) == (fields["url"], {"key": "d/s", "n": 1})


def test_a_json_cannot_name_a_file_of_this_machine(tmp_path):
    fields = {"texts": [None, None, "t"], "images": ["/etc/passwd", "file:///etc/passwd", None]}
    (row,) = read(tmp_path, ("s.json", json.dumps(fields)))
    assert [error.reason for error in row.lost] == ["missing_member"] * 2
    pair = {"url": "file:///etc/passwd", "carrier": '["/etc/passwd", 0, null, null]'}
    (row,) = read(tmp_path, ("s.json", json.dumps(pair)), ("s.jpg", PICTURES[0]), ("s.txt", "x"))
    assert content(row.document.images[0]) == PICTURES[0]
    assert row.document.images[0].url == "carried:00007.tar/s.jpg@1536"


def test_plain_webdataset_groups_as_we_do(tmp_path):
    members = [(f"a.b/{n:03d}.{part}", b"x") for n in range(4) for part in ("jpg", "txt", "seg.png")]
    path = write(tmp_path / "x.tar", members)
    with path.open("rb") as stream:  # its own opener leaves files open
        files = tariterators.tar_file_expander([{"url": "x", "stream": stream}])
        theirs = [sample["__key__"] for sample in tariterators.group_by_keys(files)]
    (unit,) = Webdataset().units(path)
    assert [json.loads(row.document.meta)["key"] for row in Webdataset().read(unit)] == theirs


@pytest.mark.parametrize("name", ["mpdata.tar", "tendata.tar"])
def test_tars_of_other_data_are_told_sample_by_sample(name):
    if not (SAMPLES / name).exists():
        pytest.skip("needs ../shared")
    (unit,) = Webdataset().units(SAMPLES / name)
    rows = list(Webdataset().read(unit))
    assert len(rows) == 100
    assert {row.document.reason for row in rows} == {"no_caption"}


def test_pairs_go_from_the_tar_to_the_store_without_network(tmp_path):
    (tmp_path / "in").mkdir()
    for shard in range(3):
        write(
            tmp_path / "in" / f"{shard:05d}.tar",
            [
                part
                for n in range(2)
                for part in (
                    (f"{n}.jpg", PICTURES[2 * shard + n]),
                    (f"{n}.txt", f"text {n}"),
                )
            ],
        )
    step = Ingest(format="webdataset")
    for workers in (1, 2):
        manifest = ingest(tmp_path / "in", tmp_path / f"docs{workers}", step, Engine(workers))
    assert bytes_of(tmp_path / "docs1") == bytes_of(tmp_path / "docs2")
    assert (manifest.ledger.documents.kept, manifest.ledger.images.kept) == (6, 6)
    images = download(tmp_path / "docs1", tmp_path / "store", Download(images_per_shard=10), Engine(1))
    assert images.ledger.images.kept == 6


def test_a_folder_of_our_shards_is_read_again(tmp_path):
    from lcl_data.shard import Shard, shard
    from tests.lcl_data.corpus import write_documents
    from tests.lcl_data.sharding import make_store

    keys = make_store(tmp_path / "store", PICTURES)
    images = [Image(url=f"http://h/{n}.jpg", key=key) for n, key in enumerate(keys)]
    items = [
        ("first", images[0], images[1], "second <image>"),
        ("none's", images[2]._replace(anchor=2), "alone", "été"),
        ("no picture",),
        (images[3], images[4], images[5]),
    ]
    documents = [Document(f"{n:032x}", "mmc4", made, f"http://page/{n}") for n, made in enumerate(items)]
    docs = write_documents(tmp_path / "docs", [documents])
    out = tmp_path / "shards"
    shard(docs, tmp_path / "store", out, Shard(tokenizer="clip", containers=("webdataset",)), Engine(1))
    ingest(out, tmp_path / "again", Ingest(format="webdataset"), Engine(1))
    again = read_documents(tmp_path / "again")
    assert [document.texts for document in again] == [document.texts for document in documents]
    assert [document.url for document in again] == [document.url for document in documents]
    for new, old in zip(again, documents, strict=True):
        assert [type(item) for item in new.items] == [type(item) for item in old.items]
        assert [image.anchor for image in new.images] == [image.anchor for image in old.images]
        numbers = [keys.index(image.key) for image in old.images]
        assert [content(image) for image in new.images] == [PICTURES[number] for number in numbers]
    assert json.loads(again[0].meta) == {"key": f"{0:032x}", "id": f"{0:032x}", "source": "mmc4"}
    images = download(tmp_path / "again", tmp_path / "store2", Download(images_per_shard=10), Engine(1))
    assert images.ledger.images.kept == 6
    (table,) = (tmp_path / "store2").glob("*.parquet")
    assert len(pq.read_table(table)) == 6
    assert len({hashlib.sha256(one).digest() for one in PICTURES}) == 6
