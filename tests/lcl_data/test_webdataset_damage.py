"""WebDataset tars that are torn, damaged or mangled: they fail alone or are counted, and never raise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from lcl_data.sources.webdataset import Webdataset
from schemas.documents import Document
from schemas.errors import ShardError, SourceError
from tests.lcl_data.tarred import PICTURES, content, read, write


def test_a_tar_packed_as_a_whole_fails_with_a_remedy(tmp_path):
    (tmp_path / "x-00002.tar.gz").write_bytes(b"\x1f\x8b")
    write(tmp_path / "x-00001.tar", [("a.jpg", b"x"), ("a.txt", "x")])
    plain, packed = Webdataset().units(tmp_path)
    assert (plain.number, packed.number) == (1, 2)
    with pytest.raises(ShardError, match=r"x-00002\.tar\.gz: packed as a whole.*plain \.tar"):
        list(Webdataset().read(packed))


WHOLE = [
    part
    for n in range(5)
    for part in ((f"{n}.jpg", PICTURES[n][: 300 + n]), (f"{n}.txt", f"text {n}"), (f"{n}.json", "{}"))
]


def test_a_torn_tar_fails_alone_and_is_named(tmp_path):
    src = tmp_path / "in"
    src.mkdir()
    write(src / "00000.tar", WHOLE)
    torn = write(src / "00001.tar", WHOLE)
    torn.write_bytes(torn.read_bytes()[:5000])
    manifest = ingest(src, tmp_path / "out", Ingest(format="webdataset"), Engine())
    assert list(manifest.failed) == ["00001.tar"] and "download it again" in manifest.failed["00001.tar"]
    assert manifest.ledger.documents.kept == 5


def test_two_members_of_one_name_are_two_pictures(tmp_path):
    pair = [
        ("a.jpg", PICTURES[0]),
        ("a.txt", "one"),
        ("b.txt", "apart"),
        ("a.jpg", PICTURES[1]),
        ("a.txt", "two"),
    ]
    first, _, second = [row.document for row in read(tmp_path, *pair)]
    assert first.images[0].url != second.images[0].url
    assert [content(document.images[0]) for document in (first, second)] == PICTURES[:2]


@settings(max_examples=150)
@given(st.data())
def test_damaged_tars_never_raise_but_shard_errors(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("damaged") / "x.tar", WHOLE)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    (unit,) = Webdataset().units(path)
    try:
        rows = list(Webdataset().read(unit))
    except ShardError as error:
        assert "x.tar" in str(error)
        return
    for row in rows:
        if isinstance(row.document, Document):
            assert row.images == len(row.document.images) + len(row.lost)
            assert all(len(content(image)) for image in row.document.images)


NAMES = st.sampled_from(
    ["a.jpg", "a.txt", "a.json", "b.0.jpg", "b.1.png", "b.json", "b.cls", "c.x.txt", ".jpg"]
)
JSON = st.sampled_from(
    [b"", b"{}", b"[]", b'{"texts": [null, "t"], "images": ["0.jpg", null]}', b'{"texts": 5, "images": []}',
     b'{"schema": "sequences/1", "texts": [null, "t"], "images": ["0.jpg", null], "anchor_texts": [7]}',
     b'{"schema": "sequences/1", "texts": [null, "t"], "images": ["0.jpg", null], "anchor_texts": ["x"]}',
     b'{"schema": "sequences/1", "texts": [null, "t"], "images": ["0.jpg", null], "anchor_texts": [7]}',
    b'{"schema": "sequences/1", "texts": [null, "t"], "images": ["0.jpg", null], "anchor_texts": ["x"]}',
    b'{"caption": 5}', b'{"caption": "c", "url": 7}', b'{"texts": ["a"], "images": [[]]}', b"\xff"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.tuples(NAMES, JSON), min_size=1, max_size=12))
def test_a_mangled_sample_is_counted_and_never_raises(tmp_path_factory, members):
    for row in read(tmp_path_factory.mktemp("mangled"), *members):
        if isinstance(row.document, SourceError):
            assert row.lost == ()
        else:
            assert row.images == len(row.document.images) + len(row.lost)
