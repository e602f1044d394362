"""Folders that img2dataset filled, as a source of pairs: what failed is counted with its reason."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.carriers import Carrier
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from lcl_data.sources.img2dataset import Img2dataset
from schemas.documents import Document
from schemas.errors import RecipeError, ShardError, SourceError
from tests.lcl_data.corpus import bytes_of
from tests.lcl_data.sharding import picture
from tests.lcl_data.test_webdataset_source import content, write

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("url", "caption", "key", "status", "error_message", "exif", "sha256")]
    + [(name, pa.int32()) for name in ("width", "height", "original_width", "original_height")]
    + [("punsafe", pa.float64())]
)
FAILURES = {
    "HTTP Error 404: Not Found": "http_404",
    "<urlopen error timed out>": "timeout",
    "<urlopen error [Errno -2] Name or service not known>": "dns",
    "something else": "connection",
}


def fetched(number, shard=0, **changes):
    key = f"{shard:05d}{number:04d}"
    row = {"url": f"http://h.example/{key}.jpg", "caption": f"caption {key}", "key": key, "status": "success",
           "error_message": None, "exif": "{}", "sha256": "00", "width": 16, "height": 16,
           "original_width": 640, "original_height": 480, "punsafe": 0.25}  # fmt: skip
    return row | changes


def folder(path, rows, shard=0, form="webdataset", without=()):
    path.mkdir(exist_ok=True)
    name = f"{shard:05d}"
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path / f"{name}.parquet")
    members = []
    for number, row in enumerate(rows):
        if row["status"] == "success" and number not in without:
            members += [(f"{row['key']}.jpg", picture(number)), (f"{row['key']}.json", json.dumps(row)),
                        (f"{row['key']}.txt", row["caption"] or "")]  # fmt: skip
    if form == "webdataset":
        write(path / f"{name}.tar", members)
    elif form == "files":
        (path / name).mkdir()
        for member, data in members:
            (path / name / member).write_bytes(data if isinstance(data, bytes) else data.encode())
    (path / f"{name}_stats.json").write_text("{}")
    return path


def read(path):
    return [row for unit in Img2dataset().units(path) for row in Img2dataset().read(unit)]


@pytest.mark.parametrize("form", ["webdataset", "files"])
def test_a_row_is_its_picture_where_it_lies_and_its_caption(tmp_path, form):
    rows = read(folder(tmp_path / "in", [fetched(n) for n in range(3)], form=form))
    for number, row in enumerate(rows):
        image, text = row.document.items
        assert text == f"caption 00000{number:04d}"
        assert content(image) == picture(number)
        assert (image.width, image.height, image.anchor) == (640, 480, 0)
        assert image.url == f"http://h.example/00000{number:04d}.jpg"
        meta = json.loads(image.meta)
        assert (meta["punsafe"], meta["width"], meta["key"]) == (0.25, 16, f"00000{number:04d}")


def test_what_failed_upstream_is_rejected_with_its_reason(tmp_path):
    rows = [
        fetched(n, status="failed_to_download", error_message=message) for n, message in enumerate(FAILURES)
    ]
    rows += [fetched(7, status="failed_to_resize", error_message="image decoding error"), fetched(8)]
    found = read(folder(tmp_path / "in", rows))
    reasons = [row.document.reason for row in found[:-1]]
    assert reasons == [*FAILURES.values(), "broken_image"]
    assert found[0].document.detail == "failed_to_download: HTTP Error 404: Not Found"
    assert isinstance(found[-1].document, Document)
    assert all(row.images == 1 for row in found)


def test_pictures_and_rows_without_each_other_are_counted(tmp_path):
    rows = [fetched(0), fetched(1), fetched(2, caption=None), fetched(3, key=None)]
    path = folder(tmp_path / "in", rows, without=(1, 3))
    with_orphan = folder(tmp_path / "other", [fetched(5)])
    shutil.copy(with_orphan / "00000.tar", path / "00001.tar")
    pq.write_table(pa.Table.from_pylist([], schema=SCHEMA), path / "00001.parquet")
    found = read(path)
    reasons = [row.document.reason for row in found if isinstance(row.document, SourceError)]
    assert reasons == ["missing_member", "no_caption", "bad_type", "not_in_table"]
    assert found[-1].place == "00001!000000005.jpg"


def test_a_torn_tar_fails_its_shard(tmp_path):
    path = folder(tmp_path / "in", [fetched(n) for n in range(6)])
    whole = (path / "00000.tar").read_bytes()
    for length in range(0, len(whole.rstrip(b"\0")), 512):
        (path / "00000.tar").write_bytes(whole[:length])
        with pytest.raises(ShardError, match=r"00000\.tar: torn"):
            read(path)


def test_two_pictures_of_one_key_are_both_counted(tmp_path):
    path = folder(tmp_path / "in", [fetched(0)], form="files")
    (path / "00000" / "000000000.png").write_bytes(b"another")
    kept, other = read(path)
    assert isinstance(kept.document, Document)
    assert (other.document.reason, other.place) == ("not_in_table", "00000!000000000.png")


def test_what_is_no_shard_of_pairs_fails_alone_with_a_remedy(tmp_path):
    path = folder(tmp_path / "in", [fetched(0)])
    folder(path, [fetched(0, 1)], 1, form="parquet")
    folder(path, [fetched(0, 2)], 2)
    (path / "00002.parquet").unlink()
    folder(path, [fetched(0, 3)], 3)
    pq.write_table(pa.table({"url": ["x"]}), path / "00003.parquet")
    units = Img2dataset().units(path)
    assert [unit.number for unit in units] == [0, 1, 2, 3]
    for unit, message in zip(
        units[1:], ["output_format webdataset", "was stopped", "no column caption"], strict=True
    ):
        with pytest.raises(ShardError, match=message):
            list(Img2dataset().read(unit))
    with pytest.raises(RecipeError, match="name its output folder"):
        Img2dataset().units(write(tmp_path / "x.tar", []))


def test_the_ledger_adds_up_and_workers_write_the_same_bytes(tmp_path):
    path = folder(tmp_path / "in", [fetched(n) for n in range(4)])
    bad = fetched(1, 1, status="failed_to_download", error_message="HTTP Error 500: x")
    folder(path, [fetched(0, 1), bad], 1)
    step = Ingest(format="img2dataset")
    for workers in (1, 2):
        manifest = ingest(path, tmp_path / f"{workers}", step, Engine(workers))
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")
    documents, images = manifest.ledger.documents, manifest.ledger.images
    assert (documents.read, documents.kept, documents.rejected) == (6, 5, {"http_500": 1})
    assert (images.read, images.kept, images.rejected) == (6, 5, {"document_rejected": 1})


CELL = st.none() | st.text(max_size=5) | st.integers() | st.sampled_from(["success", "000000001"])


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(dict.fromkeys(("url", "key", "status", "caption", "error_message", "width"), CELL))
)
def test_a_mangled_row_is_counted_and_never_raises(fields):
    from functools import partial

    from lcl_data.sources import row
    from lcl_data.sources.img2dataset import _Pictures

    pictures = _Pictures({"000000001": ("000000001.jpg", Carrier("/x"))})
    make = partial(Img2dataset()._document, fields, pictures, "0" * 32, "00000")
    found = row("here", 1, 1, make)
    assert isinstance(found.document, Document | SourceError)
