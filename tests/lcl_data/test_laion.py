"""Tables of pairs: columns found by name or content, nothing upstream lost, large files in parts."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from lcl_data.sources.coyo import Coyo
from lcl_data.sources.datacomp import Datacomp
from lcl_data.sources.laion import Laion
from schemas.documents import Document, Image
from schemas.errors import RecipeError, ShardError
from tests.lcl_data.corpus import bytes_of, read_documents
from tests.lcl_data.text_tables import LINES, URL, rows_of, text_file

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "laion"
LAION = {
    "SAMPLE_ID": 7,
    "URL": URL,
    "TEXT": "a boat",
    "HEIGHT": 480,
    "WIDTH": 640,
    "LICENSE": "?",
    "NSFW": "UNLIKELY",
    "similarity": 0.31,
}


def table(tmp_path, *rows, source=None, name="part-00003.parquet"):
    pq.write_table(pa.Table.from_pylist(list(rows)), tmp_path / name)
    return rows_of(source or Laion(), tmp_path / name)


def one(tmp_path, source, fields):
    (row,) = table(tmp_path, fields, source=source)
    return row.document


def test_a_pair_is_its_picture_and_the_caption_it_belongs_to(tmp_path):
    document = one(tmp_path, None, LAION)
    image, text = document.items
    assert text == "a boat"
    assert (image.url, image.width, image.height, image.anchor) == (URL, 640, 480, 0)
    assert image.similarity == pytest.approx(0.31)
    assert json.loads(image.meta) == {"SAMPLE_ID": 7, "LICENSE": "?", "NSFW": "UNLIKELY"}
    assert (document.source, document.license, document.url) == ("laion", None, None)


@pytest.mark.parametrize(
    ("source", "fields", "similarity", "meta"),
    [
        (Coyo(), {"text": "x", "width": 2, "height": 3, "clip_similarity_vitb32": 0.2,
                  "clip_similarity_vitl14": 0.25, "id": 4}, 0.25, {"clip_similarity_vitb32", "id"}),
        (Datacomp(), {"uid": "ab", "text": "x", "original_width": 2, "original_height": 3,
                      "clip_b32_similarity_score": 0.2, "clip_l14_similarity_score": 0.25,
                      "face_bboxes": [[0.5, 1.0]], "sha256": "00"}, 0.25,
         {"uid", "clip_b32_similarity_score", "face_bboxes", "sha256"}),
        (Laion(), {"TEXT": "x", "WIDTH": 2, "HEIGHT": 3, "similarity": 0.25, "hash": -5, "punsafe": 0.1,
                   "pwatermark": 0.2, "LANGUAGE": "nl"}, 0.25, {"hash", "punsafe", "pwatermark", "LANGUAGE"}),
    ],
)  # fmt: skip
def test_every_column_of_a_published_table_survives(tmp_path, source, fields, similarity, meta):
    image = one(tmp_path, source, {"url": URL, **fields}).images[0]
    assert (image.width, image.height, image.similarity) == (2, 3, similarity)
    assert json.loads(image.meta) == {name: fields[name] for name in meta}


def test_what_fits_no_column_stays_in_meta(tmp_path):
    odd = LAION | {"WIDTH": -1, "HEIGHT": 1 << 40, "similarity": float("nan"), "LICENSE": "CC-BY"}
    document = one(tmp_path, Laion(license="unknown"), odd)
    (image,) = document.images
    assert (image.width, image.height, image.similarity, document.license) == (None, None, None, "CC-BY")
    assert json.loads(image.meta).keys() == {"SAMPLE_ID", "WIDTH", "HEIGHT", "similarity", "NSFW"}


def test_a_size_that_may_be_missing_is_a_float_to_pandas(tmp_path):
    image = one(tmp_path, None, LAION | {"WIDTH": 640.0, "HEIGHT": 480.5}).images[0]
    assert (image.width, image.height) == (640, None)
    assert json.loads(image.meta)["HEIGHT"] == 480.5


def test_a_similarity_column_that_is_asked_for_must_be_there(tmp_path):
    without = {name: value for name, value in LAION.items() if name != "similarity"}
    assert one(tmp_path, None, without).images[0].similarity is None
    with pytest.raises(ShardError, match=r"no column clip; its columns are .*source\.similarity_column=NAME"):
        table(tmp_path, LAION, source=Laion(similarity_column="clip"))
    assert one(tmp_path, Laion(similarity_column="SIMILARITY"), LAION).images[0].similarity is not None
    assert one(tmp_path, Laion(similarity_column=None), LAION).images[0].similarity is None


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs ../shared/samples")
def test_a_real_table_is_read(tmp_path):
    ledger = ingest(SAMPLES, tmp_path / "out", Ingest(format="laion"), Engine()).ledger
    assert (ledger.documents.read, ledger.documents.rejected) == (11_000, {"bad_url": 1})
    assert ledger.images.read == 11_000 and ledger.images.balances


@pytest.mark.parametrize(
    ("changes", "reason", "images"),
    [
        ({"URL": None}, "no_url", 0),
        ({"URL": ""}, "no_url", 0),
        ({"TEXT": None}, "no_caption", 1),
        ({"TEXT": " \n"}, "no_caption", 1),
        ({"URL": "not an address"}, "bad_url", 1),
        ({"URL": "data:image/png;base64,AA"}, "bad_url", 1),
        ({"URL": "file:///etc/passwd"}, "bad_url", 1),
        ({"URL": "ftp://host.example/a.jpg"}, "bad_url", 1),
    ],
)
def test_a_row_that_is_no_pair_is_rejected(tmp_path, changes, reason, images):
    good, bad = table(tmp_path, LAION, LAION | changes)
    assert isinstance(good.document, Document)
    assert (bad.document.reason, bad.images, bad.place) == (reason, images, "part-00003.parquet:1")


def test_columns_of_another_type_cost_their_rows(tmp_path):
    (row,) = table(tmp_path, LAION | {"TEXT": 5})
    assert row.document.reason == "bad_type"


def test_columns_are_never_guessed_among_several(tmp_path):
    both = LAION | {"caption": "written by a model"}
    with pytest.raises(ShardError, match=r"TEXT, caption may both be meant.*source\.caption_column"):
        table(tmp_path, both)
    (row,) = table(tmp_path, both, source=Laion(caption_column="caption"))
    assert row.document.texts == ("written by a model",)
    with pytest.raises(ShardError, match=r"no column url; its columns are images, texts"):
        table(tmp_path, {"images": "a", "texts": "b"})
    with pytest.raises(ShardError, match="no column body"):
        table(tmp_path, LAION, source=Laion(caption_column="body"))


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(1, 50), st.integers(1, 50), st.integers(1, 20))
def test_a_large_parquet_comes_in_parts_that_lose_no_row_and_change_no_id(
    tmp_path_factory, rows, group, per_shard, batch
):
    path = tmp_path_factory.mktemp("parts") / "part-00004.parquet"
    found = pa.table({"URL": [f"{URL}?{n}" for n in range(rows)], "TEXT": [f"t{n}" for n in range(rows)]})
    pq.write_table(found, path, row_group_size=group)
    (unit,) = Laion().units(path)
    assert unit.number == 4
    whole = [row.document for row in Laion().read(unit)]
    assert len(whole) == rows
    source = Laion(rows_per_shard=per_shard, batch_rows=batch)
    assert [row.document for row in rows_of(source, path)] == whole


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 torn"),
        ("a.parquet", b""),
        ("a.tsv.gz", gzip.compress(b"http://h/\tx\n" * 99)[:-9]),
    ],
)
def test_a_torn_file_fails_alone(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (unit,) = Laion().units(tmp_path)
    with pytest.raises(ShardError, match=rf"{name}: torn"):
        list(Laion().read(unit))


def test_nothing_to_read_is_told_before_work(tmp_path):
    with pytest.raises(RecipeError, match=r"no file that ends in \.parquet"):
        Laion().units(tmp_path)


@pytest.mark.parametrize("format", ["laion", "coyo", "datacomp", "cc3m", "cc12m"])
def test_any_number_of_workers_writes_the_same_bytes(tmp_path, format):
    lines = [*LINES, ("http://[broken", "x"), ("no address", "y")]
    (tmp_path / "in").mkdir()
    text_file(tmp_path / "in" / "x.tsv", "".join(f"{url}\t{caption}\n" for url, caption in lines))
    step = Ingest(format=format, source={"nbytes_per_shard": 500})
    first, second = (
        (ingest(tmp_path / "in", out, step, Engine(workers)), bytes_of(out))
        for workers, out in ((1, tmp_path / "1"), (2, tmp_path / "2"))
    )
    assert first == second
    documents = first[0].ledger.documents
    assert (documents.read, documents.kept, documents.rejected) == (52, 50, {"bad_url": 2})
    assert {document.source for document in read_documents(tmp_path / "1")} == {format}


CELL = st.none() | st.text(max_size=8) | st.integers() | st.floats() | st.just(URL) | st.lists(st.none())
NAMES = st.sampled_from(["URL", "TEXT", "WIDTH", "similarity", "LICENSE", "punsafe"])


@settings(max_examples=200)
@given(st.dictionaries(NAMES, CELL))
def test_a_mangled_row_is_counted_and_never_raises(fields):
    from lcl_data.pairs import _entries
    from lcl_data.sources import row

    source, fields = Laion(), {"URL": URL, "TEXT": "a", **fields}
    layout = source._layout(fields, None)
    found = row("x", 1, _entries(fields, layout), lambda: source._document(fields, layout, "0" * 32, "laion"))
    if isinstance(found.document, Document):
        assert [type(item) for item in found.document.items] == [Image, str] and found.images == 1
