"""OmniCorpus: nested structs beside parallel lists, and the law that a mangled row is counted."""

import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from lcl_data.rows import Found
from lcl_data.sources.omnicorpus import Omnicorpus
from schemas.documents import Document, Image
from schemas.errors import ShardError, SourceError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import bytes_of, read_documents

PAGE = "http://page.example/a"
GENERAL = pa.struct(
    [("domain", pa.list_(pa.string())), ("fluency_prob", pa.float64()), ("id", pa.string()),
     ("non_advertisement_prob", pa.float64()), ("politics_prob", pa.float64()), ("porn_prob", pa.float64()),
     ("toxic_prob", pa.float64()), ("url", pa.string())]
)  # fmt: skip
FACTS = pa.struct(
    [("aesthetic_prob", pa.float64()), ("bytes", pa.int64()), ("d_hash", pa.string()),
     ("d_hash_dup_count", pa.int64()), ("height", pa.int64()), ("img_url_sha", pa.string()),
     ("p_hash", pa.string()), ("p_hash_dup_count", pa.int64()), ("unsafe_prob", pa.float64()),
     ("width", pa.int64())]
)  # fmt: skip
SCHEMA = pa.schema(
    [
        ("general_metadata", GENERAL),
        ("images", pa.list_(pa.string())),
        ("texts", pa.list_(pa.string())),
        ("metadata", pa.list_(FACTS)),
    ]
)
FACT = {
    "aesthetic_prob": 5.25, "bytes": 41_000, "d_hash": "0f0f", "d_hash_dup_count": 3, "height": 480,
    "img_url_sha": "ab" * 32, "p_hash": "f0f0", "p_hash_dup_count": 1, "unsafe_prob": 0.125, "width": 640,
}  # fmt: skip
INFO = {
    "domain": ["page.example"], "fluency_prob": 0.75, "id": "BkiU", "non_advertisement_prob": 0.5,
    "politics_prob": 0.0, "porn_prob": 0.0, "toxic_prob": 0.25, "url": PAGE,
}  # fmt: skip


def upstream(**changes):
    row = {
        "general_metadata": INFO,
        "images": ["http://page.example/1.jpg", None, "http://page.example/2.jpg"],
        "texts": [None, "A boat.", None],
        "metadata": [FACT, None, FACT | {"width": 10}],
    }
    return {key: value for key, value in (row | changes).items() if value is not ...}


def write(path, rows, schema=SCHEMA, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)
    return path


def rows_of(path, **options):
    source = Omnicorpus(**options)
    return [row for unit in source.units(path) for row in source.read(unit)]


def one(tmp_path, schema=SCHEMA, **changes):
    (row,) = rows_of(write(tmp_path / "train-00000-of-00001.parquet", [upstream(**changes)], schema))
    return row


def from_json(tmp_path, **changes):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(upstream(**changes)))
    (row,) = rows_of(path)
    return row


@pytest.mark.parametrize("read", [one, from_json])
def test_a_document_keeps_its_order_and_every_field(tmp_path, read):
    document = read(tmp_path).document
    first, text, second = document.items
    assert text == "A boat."
    assert (first.url, first.width, first.height, first.nbytes) == (
        "http://page.example/1.jpg",
        640,
        480,
        41_000,
    )
    assert json.loads(first.meta) | {"width": 640, "height": 480, "bytes": 41_000} == FACT
    assert (second.width, first.phash, first.anchor, first.similarity) == (10, None, None, None)
    assert (document.url, document.source) == (PAGE, "omnicorpus")
    assert json.loads(document.meta) == {"general_metadata": INFO}


def test_a_struct_of_nulls_beside_a_text_says_nothing(tmp_path):
    nothing = dict.fromkeys(FACT)
    document = one(tmp_path, metadata=[FACT, nothing, FACT]).document
    assert [image.width for image in document.images] == [640, 640]
    assert "metadata" not in json.loads(document.meta)


def test_metadata_of_the_pictures_alone_is_dealt_out_in_their_order(tmp_path):
    document = one(tmp_path, metadata=[FACT, FACT | {"width": 10}]).document
    assert [image.width for image in document.images] == [640, 10]


@pytest.mark.parametrize("metadata", [[FACT], [FACT] * 3, [FACT] * 4])
def test_metadata_that_fits_neither_way_belongs_to_nobody_and_stays_whole(tmp_path, metadata):
    document = one(tmp_path, metadata=metadata).document
    assert [image.width for image in document.images] == [None, None]
    assert json.loads(document.meta)["metadata"] == metadata


def test_a_value_that_no_column_holds_stays_in_meta(tmp_path):
    fact = FACT | {"width": 1 << 40, "height": -1, "bytes": None, "aesthetic_prob": None}
    image = one(tmp_path, metadata=[fact, None, None]).document.images[0]
    assert (image.width, image.height, image.nbytes) == (None, None, None)
    assert json.loads(image.meta) == fact


def test_nested_columns_may_be_json_strings_null_or_absent(tmp_path):
    texts = {"general_metadata": json.dumps(INFO), "metadata": json.dumps(upstream()["metadata"])}
    assert from_json(tmp_path, **texts).document == from_json(tmp_path).document
    assert from_json(tmp_path, general_metadata=None, metadata=...).document.meta is None
    schema = pa.schema([SCHEMA.field("images"), SCHEMA.field("texts"), ("doc_loc", pa.string())])
    document = one(tmp_path, schema, doc_loc="7:12").document
    assert (document.url, json.loads(document.meta)) == (None, {"doc_loc": "7:12"})


def test_a_placeholder_beside_a_picture_is_no_text_and_elsewhere_it_is(tmp_path):
    document = one(tmp_path, texts=["<image>", "<image> of a boat", ""]).document
    assert [type(item) for item in document.items] == [Image, str, Image]
    assert document.texts == ("<image> of a boat",)


def test_similarities_and_verdicts_go_to_their_picture(tmp_path):
    matrix = [[0.25], [0.125]]
    document = from_json(tmp_path, similarity_matrix=matrix, valid_image=[True, False]).document
    found = [json.loads(image.meta) for image in document.images]
    assert [fact["similarities"] for fact in found] == matrix
    assert [fact["valid_image"] for fact in found] == [True, False]
    other = from_json(tmp_path, similarity_matrix=[[0.5]]).document
    assert json.loads(other.meta)["similarity_matrix"] == [[0.5]]


def test_an_image_without_a_host_is_rejected_alone_and_its_facts_with_it(tmp_path):
    row = one(tmp_path, images=["data:image/png;base64,AA", None, "/2.jpg"])
    assert [error.reason for error in row.lost] == ["bad_url"]
    (image,) = row.document.images
    assert (image.url, image.width) == ("http://page.example/2.jpg", 10)
    assert json.loads(image.meta)["raw_url"] == "/2.jpg"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": None}, "bad_type"),
        ({"texts": None}, "bad_type"),
        ({"texts": [None, "a"]}, "mismatched_lengths"),
        ({"texts": ["both", "a", None]}, "both_text_and_image"),
        ({"texts": [None, None, None]}, "neither_text_nor_image"),
        ({"images": [], "texts": [], "metadata": []}, "empty"),
        ({"images": [""], "texts": [None]}, "neither_text_nor_image"),
    ],
)
def test_a_row_that_breaks_a_rule_is_rejected_whole(tmp_path, changes, reason):
    path = write(tmp_path / "shard_7.parquet", [upstream(), upstream(**changes)])
    good, bad = rows_of(path)
    assert isinstance(good.document, Document)
    assert isinstance(bad.document, SourceError)
    assert (bad.document.reason, bad.place) == (reason, "shard_7.parquet:1")
    assert bad.images == sum(bool(url) for url in upstream(**changes)["images"] or ())


def test_files_keep_their_numbers_and_names_tell_dumps_apart(tmp_path):
    names = ["CC-MAIN-2013-20/train-00001-of-00002.parquet", "shard_32.parquet", "odd.parquet"]
    for name in names:
        write(tmp_path / name, [upstream()])
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(json.dumps(upstream()).encode() + b"\n[]\n"))
    units = Omnicorpus().units(tmp_path)
    assert [(unit.number, unit.name) for unit in units] == [
        (1, names[0]), (32, names[1]), (33, names[2]), (34, "rows.jsonl.gz")
    ]  # fmt: skip
    *good, bad = rows_of(tmp_path)
    assert len({row.document.id for row in good}) == 4
    assert (bad.place, bad.document.reason) == ("rows.jsonl.gz:2", "not_an_object")


@pytest.mark.parametrize("kind", ["torn", "empty", "foreign"])
def test_a_file_that_is_no_omnicorpus_fails_alone(tmp_path, kind):
    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"URL": ["x"]}), path)
    whole = path.read_bytes()
    path.write_bytes({"torn": whole[:-20], "empty": b"", "foreign": whole}[kind])
    with pytest.raises(ShardError, match=r"train-00000-of-00001\.parquet: (torn|no column images, texts)"):
        rows_of(path)


def corpus(folder):
    for number in range(4):
        rows = [upstream(texts=[None, f"Text {number} {row}", None]) for row in range(250)]
        rows[7] = upstream(texts=None)
        rows[8] = upstream(images=["nowhere", None, "http://page.example/2.jpg"], general_metadata=None)
        write(folder / f"train-{number:05d}-of-00004.parquet", rows, row_group_size=90)
    return folder


def test_every_row_is_accounted_for_and_workers_do_not_show(tmp_path):
    src = corpus(tmp_path / "src")
    step = Ingest(format="omnicorpus", source={"batch_rows": 40, "license": "CC-BY-4.0"})
    ledger = ingest(src, tmp_path / "one", step, Engine(workers=1)).ledger
    documents = ledger.documents
    assert (documents.read, documents.kept, documents.rejected) == (1000, 996, {"bad_type": 4})
    assert ledger.images.rejected == {"bad_url": 4, "document_rejected": 8}
    assert ledger.images.balances
    ingest(src, tmp_path / "four", step, Engine(workers=4))
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "four")
    assert {document.license for document in read_documents(tmp_path / "one")} == {"CC-BY-4.0"}
    assert len(read_manifest(tmp_path / "one").shards) == 4


PEAK = """
import sys
from pathlib import Path
import pyarrow as pa
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
folder = Path(sys.argv[1])
for name in ("small", "large", "whole"):
    ingest(folder / f"{name}.parquet", folder / name, Ingest(format="omnicorpus"), Engine())
    status = Path("/proc/self/status").read_text().splitlines()
    print(*(line.split()[1] for line in status if line.startswith("VmHWM")))
print(pa.default_memory_pool().max_memory())
"""


def test_peak_memory_does_not_grow_with_the_file_and_no_row_group_is_held_whole(tmp_path):
    made = [upstream(texts=[None, f"{row} word " * 600, None]) for row in range(8000)]
    for name, rows, group in [("small", 1500, 500), ("large", 8000, 500), ("whole", 8000, 8000)]:
        path = tmp_path / f"{name}.parquet"
        write(path, made[:rows], row_group_size=group, compression="none", use_dictionary=False)
    size = (tmp_path / "whole.parquet").stat().st_size
    run = [sys.executable, "-c", PEAK, tmp_path]
    found = subprocess.run(run, check=True, capture_output=True).stdout.split()
    small, large, _, held = map(int, found)
    assert large - small < 20_000, (small, large)  # KiB; the larger file holds 40 MB more
    assert held < size * 0.8, (held, size)  # of Arrow's memory, the writing included


CELL = st.none() | st.text(max_size=6) | st.sampled_from(["http://h.example/a.jpg", "<image>", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FACT, *INFO]), inner, max_size=3)
    ),
    max_leaves=8,
)
NESTED = JSON | JSON.map(json.dumps)


@settings(max_examples=200)
@given(
    st.lists(CELL, max_size=4) | JSON,
    st.lists(CELL, max_size=4) | JSON,
    NESTED,
    NESTED,
    NESTED,
    st.booleans(),
)
def test_a_mangled_row_is_counted_and_never_raises(images, texts, metadata, general, matrix, is_short):
    fields = {"images": images, "texts": texts, "metadata": metadata, "general_metadata": general}
    fields |= {} if is_short else {"similarity_matrix": matrix, "valid_image": matrix}
    row = Omnicorpus()._row(Found(":0", 1, fields), "here", "0" * 32)
    if isinstance(row.document, Document):
        assert row.images == len(row.document.images) + len(row.lost)
    else:
        assert row.lost == ()
