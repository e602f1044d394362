"""MINT-1T: the revisions of its Parquet, the TIFFs of its tars, the road to training shards."""

import io
import json
import subprocess
import sys
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pixels

from lcl_data.download import Download, download
from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.image_count import ImageCount
from lcl_data.filters.image_size import ImageSize
from lcl_data.ingest import Ingest, ingest
from lcl_data.shard import Shard, shard
from lcl_data.shards import Shards
from lcl_data.sources.mint1t import Mint1t
from lcl_data.tokenizer import train
from lcl_data.verify import verify
from schemas.documents import Document
from schemas.errors import SourceError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import bytes_of, read_documents
from tests.lcl_data.mint import (
    HTML,
    NESTED,
    PAGE,
    PDF,
    html,
    picture,
    rows_of,
    sample,
    schema,
    tiff,
    write_tar,
)


def test_html_keeps_its_order_and_every_field(tmp_path):
    document = html(tmp_path).document
    first, text, second = document.items
    assert (first.url, first.width, first.height) == ("http://page.example/1.jpg", 640, 480)
    assert json.loads(first.meta) == {"alt": "boat", "image_hash": "aa"}
    assert json.loads(second.meta) == {"alt": None, "image_hash": "bb", "raw_url": "/2.jpg"}
    assert (text, second.url, document.url) == ("A boat.", "http://page.example/2.jpg", PAGE)
    assert json.loads(document.meta) == {"cc_dump": HTML["cc_dump"], "metadata": HTML["metadata"]}


def test_html_metadata_is_nested_or_a_string_by_revision(tmp_path):
    strings = {key: json.dumps(HTML[key]) for key in ("metadata", "images_metadata")}
    found = html(tmp_path, **strings)
    assert found.document == html(tmp_path).document


@pytest.mark.parametrize("text", ["{'language': 'en'}", "", "7", "nan", "[" * 300])
def test_a_string_that_is_no_json_object_stays_the_string_it_is(tmp_path, text):
    assert json.loads(html(tmp_path, metadata=text).document.meta)["metadata"] == text


def test_hashes_are_used_only_if_there_are_as_many_as_pictures(tmp_path):
    for hashes in (["aa"], ["aa", "bb", "cc"], []):
        document = html(tmp_path, image_hashes=hashes).document
        assert json.loads(document.meta)["image_hashes"] == hashes
        assert "image_hash" not in json.loads(document.images[0].meta)
    aligned = html(tmp_path, image_hashes=["aa", None, "bb"]).document
    assert [json.loads(image.meta)["image_hash"] for image in aligned.images] == ["aa", "bb"]


def test_an_html_image_without_a_host_is_rejected_alone_and_the_others_keep_their_facts(tmp_path):
    row = html(tmp_path, images=["data:,", None, "/2.jpg"])
    assert [error.reason for error in row.lost] == ["bad_url"]
    (image,) = row.document.images
    assert (image.width, json.loads(image.meta)["image_hash"]) == (10, "bb")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": None}, "bad_type"),
        ({"texts": [None]}, "mismatched_lengths"),
        ({"texts": ["x", "y", None]}, "both_text_and_image"),
        ({"texts": [None, None, None]}, "neither_text_nor_image"),
    ],
)
def test_an_html_row_that_breaks_a_rule_is_rejected_whole(tmp_path, changes, reason):
    row = html(tmp_path, **changes)
    assert isinstance(row.document, SourceError)
    assert row.document.reason == reason


def test_files_keep_the_one_number_they_have(tmp_path):
    numbers = {
        "CC-MAIN-2020-45/shard_0003.parquet": 3,
        "CC-MAIN-20230527223515-20230528013515-00007.tar": 7,
        "arXiv_src_0001_001_wds.tar": 8,
        "data_v1_1/shard_018_part_003.parquet": 9,
    }
    for name in numbers:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {unit.name: unit.number for unit in Mint1t().units(tmp_path)} == numbers


def corpus(folder):
    """Two tars of 12 documents of two pictures, one too small; one document of each lacks a frame."""
    for number in range(2):
        members = []
        for row in range(12):
            fields = PDF | {"texts": [f"Paper {number} {row}.", None, "See below.", None]}
            pictures = [picture(row, (64, 48)), picture(row + 1, (20, 20))]
            members += sample(f"{number:016x}{row:016x}", fields, *pictures[: 1 if row == 5 else 2])
        write_tar(folder / f"CC-MAIN-1-2-{number:05d}.tar", members)
    return folder


def test_from_a_tar_to_training_shards_with_the_pictures_intact_and_no_network(tmp_path):
    engine = Engine()
    src, docs, store, kept, out = (tmp_path / name for name in ("src", "docs", "store", "kept", "out"))
    images = ingest(corpus(src), docs, Ingest(format="mint1t"), engine).ledger.images
    assert (images.read, images.kept, images.rejected) == (48, 44, {"frames_mismatch": 4})
    assert download(docs, store, Download(images_per_shard=30), engine).ledger.images.kept == 44
    filters = [ImageSize(min_side_px=30), ImageCount(min=1, max=30)]
    assert filter_documents(docs, kept, filters, engine, store).ledger.documents.kept == 22
    train(["Paper First Then See below."], 300, tmp_path / "tokenizer.json")
    shard(kept, store, out, Shard(tokenizer=str(tmp_path / "tokenizer.json")), engine)
    shards = Shards([out])
    found = [shards[index] for index in range(len(shards))]
    assert len(found) == 22
    numbers = {document.id: int(document.texts[0].split()[-1][:-1]) for document in read_documents(kept)}
    for row in found:
        (content,) = row.images
        pixels = np.asarray(Pixels.open(io.BytesIO(content)), float)
        assert np.abs(pixels - np.asarray(picture(numbers[row.id], (64, 48)), float)).mean() < 6
    assert not verify(tmp_path).problems


def test_workers_do_not_show(tmp_path):
    src = corpus(tmp_path / "src")
    pq.write_table(
        pa.Table.from_pylist([HTML] * 50, schema=schema(*NESTED.values())), src / "shard_0005.parquet"
    )
    ingest(src, tmp_path / "one", Ingest(format="mint1t"), Engine(workers=1))
    ingest(src, tmp_path / "four", Ingest(format="mint1t"), Engine(workers=4))
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "four")
    assert [shard.name for shard in read_manifest(tmp_path / "one").shards] == [
        "00000.parquet", "00001.parquet", "00005.parquet"
    ]  # fmt: skip


PEAK = """
import sys
from pathlib import Path
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
for name in ("small", "large"):
    ingest(Path(sys.argv[1]) / f"{name}.tar", Path(sys.argv[1]) / name, Ingest(format="mint1t"), Engine())
    status = Path("/proc/self/status").read_text().splitlines()
    print(*(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def test_peak_memory_does_not_grow_with_the_tar(tmp_path):
    content = tiff(picture(0, (400, 400)), picture(1, (400, 400)))
    for name, rows in (("small", 60), ("large", 120)):
        members = [
            (f"{row:032x}.{end}", data)
            for row in range(rows)
            for end, data in (("json", json.dumps(PDF).encode()), ("tiff", content))
        ]
        write_tar(tmp_path / f"{name}.tar", members)
    assert (tmp_path / "large.tar").stat().st_size > 100 << 20
    run = [sys.executable, "-c", PEAK, tmp_path]
    small, large = map(int, subprocess.run(run, check=True, capture_output=True).stdout.split())
    assert large - small < 10_000, (small, large)  # KiB; the larger tar holds 57 MB more


CELL = st.none() | st.text(max_size=6) | st.sampled_from(["page_0_image_85", "http://h.example/a.jpg", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["page", "xref", "width", "url", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
MANGLED = st.fixed_dictionaries(
    {"images": st.lists(CELL, max_size=4) | JSON, "texts": st.lists(CELL, max_size=4) | JSON},
    optional={key: JSON | JSON.map(json.dumps) for key in (*HTML, *PDF) if key not in ("images", "texts")},
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MANGLED, st.booleans())
def test_a_mangled_row_is_counted_and_never_raises(tmp_path, fields, is_paper):
    content = json.dumps(fields).encode()
    if is_paper:
        members = [("a.json", content), ("a.tiff", tiff(picture(0), picture(1)))]
        (row,) = rows_of(write_tar(tmp_path / "x.tar", members))
        made = row.document
        images = row.images
        lost = row.lost
    else:
        call = partial(Mint1t()._page, fields, "0" * 32)
        try:
            made, lost = call()
        except SourceError:
            return
        images = sum(bool(image) for image in fields["images"])
    if isinstance(made, Document):
        assert images == len(made.images) + len(lost)
    else:
        assert lost == ()
