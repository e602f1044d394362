"""OBELICS: parallel lists, the null rules, and the law that a mangled row is counted and never raises."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.rows import Found
from lcl_data.sources.obelics import Obelics
from schemas.documents import Document, Image
from schemas.errors import ShardError, SourceError

SCHEMA = pa.schema(
    [
        ("images", pa.list_(pa.string())),
        ("metadata", pa.string()),
        ("general_metadata", pa.string()),
        ("texts", pa.list_(pa.string())),
    ]
)
FACT = {
    "document_url": "http://page.example/a",
    "unformatted_src": "/1.jpg",
    "src": "http://page.example/1.jpg",
    "formatted_filename": "1",
    "alt_text": "a boat",
    "rendered_width": 320,
    "rendered_height": None,
    "original_width": 640,
    "original_height": 480,
    "format": "jpg",
}
GENERAL = {
    "url": "http://page.example/a",
    "warc_filename": "x.warc.gz",
    "warc_record_offset": 7,
    "warc_record_length": 9,
}


def upstream(**changes):
    row = {
        "images": ["http://page.example/1.jpg", None, "http://page.example/2.jpg"],
        "metadata": json.dumps([FACT, None, {**FACT, "src": "http://page.example/2.jpg"}]),
        "general_metadata": json.dumps(GENERAL),
        "texts": [None, "A boat.\n\nOn a lake.", None],
    }
    return {key: value for key, value in (row | changes).items() if value is not ...}


def read(tmp_path, rows, schema=SCHEMA, **options):
    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    source = Obelics(**options)
    (unit,) = source.units(path)
    return list(source.read(unit))


def one(tmp_path, schema=SCHEMA, **changes):
    (row,) = read(tmp_path, [upstream(**changes)], schema)
    return row


def test_a_document_keeps_its_order_and_every_field(tmp_path):
    document = one(tmp_path).document
    first, text, second = document.items
    assert text == "A boat.\n\nOn a lake."
    assert (first.url, first.alt, first.width, first.height) == (
        "http://page.example/1.jpg",
        "a boat",
        640,
        480,
    )
    assert (first.format, first.anchor, second.url) == ("jpg", None, "http://page.example/2.jpg")
    columns = {"alt_text": first.alt, "original_width": 640, "original_height": 480, "format": "jpg"}
    assert json.loads(first.meta) | columns == FACT
    assert json.loads(document.meta) == {"general_metadata": GENERAL}
    assert (document.url, document.license) == (GENERAL["url"], None)


def test_the_licence_is_a_setting(tmp_path):
    (row,) = read(tmp_path, [upstream()], license="CC-BY-4.0")
    assert row.document.license == "CC-BY-4.0"


def test_pre_release_rows_write_empty_strings(tmp_path):
    empty = {
        "images": ["http://page.example/1.jpg", "", "http://page.example/2.jpg"],
        "texts": ["", "A boat.", ""],
    }
    document = one(tmp_path, **empty, metadata=None, general_metadata=None).document
    assert [type(item) for item in document.items] == [Image, str, Image]
    assert (document.url, document.meta) == (None, None)


def test_metadata_columns_may_be_absent_and_others_survive(tmp_path):
    schema = pa.schema([SCHEMA.field("images"), SCHEMA.field("texts"), ("score", pa.float64())])
    document = one(tmp_path, schema, score=0.5).document
    assert json.loads(document.meta) == {"score": 0.5}
    assert len(document.images) == 2


def test_the_page_is_found_in_the_images_metadata(tmp_path):
    assert one(tmp_path, general_metadata="{}").document.url == FACT["document_url"]


def test_an_empty_text_is_a_text(tmp_path):
    document = one(tmp_path, texts=[None, "", None]).document
    assert document.texts == ("",)


def test_what_fits_no_column_stays_in_meta(tmp_path):
    fact = FACT | {"original_width": 1 << 40, "original_height": "tall", "format": None, "alt_text": 5}
    image = one(tmp_path, metadata=json.dumps([fact, None, None])).document.images[0]
    assert (image.width, image.height, image.format, image.alt) == (None, None, None, None)
    assert json.loads(image.meta) == fact


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": None}, "bad_type"),
        ({"texts": None}, "bad_type"),
        ({"texts": [None, "a"]}, "mismatched_lengths"),
        ({"metadata": "[null]"}, "mismatched_lengths"),
        ({"metadata": "[null"}, "broken_json"),
        ({"metadata": "{}"}, "bad_type"),
        ({"metadata": "[1, null, 2]"}, "bad_type"),
        ({"general_metadata": "nonsense"}, "broken_json"),
        ({"general_metadata": "[]"}, "bad_type"),
        ({"texts": ["both", "a", None]}, "both_text_and_image"),
        ({"texts": [None, None, None]}, "neither_text_nor_image"),
        ({"metadata": json.dumps([FACT, FACT, FACT])}, "metadata_beside_text"),
        ({"images": [], "texts": [], "metadata": "[]"}, "empty"),
    ],
)
def test_a_row_that_breaks_a_rule_is_rejected_whole(tmp_path, changes, reason):
    good, bad = read(tmp_path, [upstream(), upstream(**changes)])
    assert isinstance(good.document, Document)
    assert isinstance(bad.document, SourceError)
    assert bad.document.reason == reason
    assert bad.place == "train-00000-of-00001.parquet:1"
    assert bad.images == sum(bool(url) for url in upstream(**changes)["images"] or ())


def test_an_image_without_a_host_is_rejected_alone(tmp_path):
    row = one(tmp_path, images=["data:image/png;base64,AA", None, "2.jpg"])
    assert [error.reason for error in row.lost] == ["bad_url"]
    (image,) = row.document.images
    assert image.url == "http://page.example/2.jpg"
    assert json.loads(image.meta)["raw_url"] == "2.jpg"


def test_a_string_that_is_not_utf8_costs_its_row_only(tmp_path):
    texts = pa.array([[None, b"good", None], [None, b"\xff\xfe", None]], pa.list_(pa.binary()))
    texts = pa.ListArray.from_arrays(texts.offsets, texts.values.view(pa.string()))
    images = pa.array([upstream()["images"]] * 2, pa.list_(pa.string()))
    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"images": images, "texts": texts}), path)
    (unit,) = Obelics().units(path)
    good, bad = Obelics().read(unit)
    assert good.document.texts == ("good",)
    assert bad.document.reason == "broken_value"


@pytest.mark.parametrize("kind", ["torn", "empty", "foreign", "no parquet"])
def test_a_file_that_is_no_obelics_fails_alone_with_a_remedy(tmp_path, kind):
    path = tmp_path / "train-00003-of-00005.parquet"
    pq.write_table(pa.table({"URL": ["x"]}), path)
    whole = path.read_bytes()
    content = {"torn": whole[:-20], "empty": b"", "foreign": whole, "no parquet": b"<html>" * 20}
    path.write_bytes(content[kind])
    (unit,) = Obelics().units(tmp_path)
    assert unit.number == 3
    assert Obelics().notes([unit]) == ["missing files of 5: 0-2, 4"]
    with pytest.raises(ShardError, match=r"train-00003-of-00005\.parquet: (torn|no column)"):
        list(Obelics().read(unit))


def test_batches_do_not_show(tmp_path):
    rows = [upstream(texts=[None, str(i), None]) for i in range(25)]
    found = [[row.document for row in read(tmp_path, rows, batch_rows=size)] for size in (4, 100)]
    assert found[0] == found[1]


CELL = st.none() | st.text(max_size=6) | st.just("http://h.example/a.jpg")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FACT, "url"]), inner, max_size=3)
    ),
    max_leaves=8,
)
BLOB = st.none() | st.text(max_size=20) | JSON.map(json.dumps)


@settings(max_examples=200)
@given(st.lists(CELL, max_size=4) | st.integers(), st.lists(CELL, max_size=4) | st.none(), BLOB, BLOB)
def test_a_mangled_row_is_counted_and_never_raises(images, texts, metadata, general):
    fields = {"images": images, "texts": texts, "metadata": metadata, "general_metadata": general}
    row = Obelics()._row(Found(":0", 1, fields), "here", "0" * 32)
    if isinstance(row.document, Document):
        assert row.images == len(row.document.images) + len(row.lost)
    else:
        assert row.lost == ()
