"""MINT-1T: the revisions of its Parquet, the TIFFs of its tars, the road to training shards."""

import io
import json
import subprocess
import sys
import tarfile
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pixels

from lcl_data.carriers import Carrier
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
from schemas.documents import Document, Image, Text
from schemas.errors import ShardError, SourceError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import bytes_of, read_documents

PAGE = "http://page.example/a"
STRINGS = pa.list_(pa.string())
NESTED = {
    "metadata": pa.struct([("language", pa.string()), ("score", pa.float64())]),
    "images_metadata": pa.list_(
        pa.struct([("width", pa.int64()), ("height", pa.int64()), ("alt", pa.string())])
    ),
}
HTML = {
    "texts": [None, "A boat.", None],
    "images": ["http://page.example/1.jpg", None, "/2.jpg"],
    "url": PAGE,
    "cc_dump": "CC-MAIN-2017-43",
    "image_hashes": ["aa", "bb"],
    "images_metadata": [
        {"width": 640, "height": 480, "alt": "boat"},
        {"width": 10, "height": 20, "alt": None},
    ],
    "metadata": {"language": "en", "score": 0.5},
}
PDF = {
    "texts": ["First.", None, "Then.", None],
    "images": [None, "page_0_image_85", None, "page_1_image_9"],
    "image_metadata": [
        {"height": 24, "width": 32, "page": 1, "sha256": "cd" * 32, "xref": 9},
        {"height": 24, "width": 32, "page": 0, "sha256": "ab" * 32, "xref": 85},
    ],
    "language_id_whole_page_fasttext": {"en": 0.9},
    "previous_word_count": 2,
    "bff_contained_ngram_count_before_dedupe": 1,
    "url": "http://site.example/paper.pdf",
    "pdf_name": "paper.pdf",
}


def schema(metadata, images_metadata):
    return pa.schema(
        [("texts", STRINGS), ("images", STRINGS), ("url", pa.string()), ("cc_dump", pa.string()),
         ("image_hashes", STRINGS), ("images_metadata", images_metadata), ("metadata", metadata)]
    )  # fmt: skip


def rows_of(path, **options):
    source = Mint1t(**options)
    return [row for unit in source.units(path) for row in source.read(unit)]


def html(tmp_path, **changes):
    path = tmp_path / "shard_018_part_003.parquet"
    row = HTML | changes
    kinds = [pa.string() if isinstance(row[key], str) else kind for key, kind in NESTED.items()]
    table = pa.Table.from_pylist([row], schema=schema(*kinds))
    pq.write_table(table, path)
    (row,) = rows_of(path)
    return row


def picture(seed, size=(32, 24)):
    """Smooth, so that JPEG leaves it recognisable."""
    grid = np.indices(size[::-1]).sum(0) * 3
    return Pixels.fromarray(
        np.stack([grid + seed * 40, 255 - grid, grid * 0 + seed * 60], 2).astype(np.uint8)
    )


def tiff(*pictures, **options):
    file = io.BytesIO()
    pictures[0].save(file, "TIFF", save_all=True, append_images=pictures[1:], **options)
    return file.getvalue()


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(key, fields, *pictures):
    text = (f"{key}.json", json.dumps(fields).encode())
    return [text, (f"{key}.tiff", tiff(*pictures))] if pictures else [text]


def pdf(tmp_path, members):
    return rows_of(write_tar(tmp_path / "CC-MAIN-20230527223515-20230528013515-00007.tar", members))


def test_html_keeps_its_order_and_every_field(tmp_path):
    document = html(tmp_path).document
    first, text, second = document.items
    assert (first.url, first.width, first.height) == ("http://page.example/1.jpg", 640, 480)
    assert json.loads(first.meta) == {"alt": "boat", "image_hash": "aa"}
    assert json.loads(second.meta) == {"alt": None, "image_hash": "bb", "raw_url": "/2.jpg"}
    assert (text, second.url, document.url) == (Text("A boat."), "http://page.example/2.jpg", PAGE)
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


def test_frames_are_the_pictures_in_their_order_and_every_field_stays(tmp_path):
    shapes = [(32, 24), (8, 40)]
    (row,) = pdf(tmp_path, sample("5f3a", PDF, *(picture(k, size) for k, size in enumerate(shapes))))
    document = row.document
    assert [type(item) for item in document.items] == [Text, Image, Text, Image]
    assert (document.url, row.images, row.lost) == (PDF["url"], 2, ())
    for number, (image, shape) in enumerate(zip(document.images, shapes, strict=True)):
        assert (image.width, image.height) == shape
        with Pixels.open(io.BytesIO(Carrier.parse(image.carrier).read(1 << 20))) as frame:
            assert np.array_equal(np.asarray(frame), np.asarray(picture(number, shape)))
    first, second = (json.loads(image.meta) for image in document.images)
    assert first == {"reference": "page_0_image_85", "image_metadata": PDF["image_metadata"][1]}
    assert second == {"reference": "page_1_image_9", "image_metadata": PDF["image_metadata"][0]}
    assert len({image.url for image in document.images}) == 2
    assert all(image.url.startswith("carried:") for image in document.images)
    kept = ("texts", "images", "image_metadata", "url")
    assert json.loads(document.meta) == {key: value for key, value in PDF.items() if key not in kept}


@pytest.mark.parametrize(
    "entries",
    [
        [PDF["image_metadata"][0]] * 2,
        [*PDF["image_metadata"], {"page": 7, "xref": 7}],
        [*PDF["image_metadata"], {"page": [], "xref": {}}],
        [*PDF["image_metadata"], None],
        {"page": 1},
        [],
    ],
)
def test_entries_that_find_no_picture_stay_in_the_documents_meta(tmp_path, entries):
    members = sample("5f3a", PDF | {"image_metadata": entries}, picture(0), picture(1))
    (row,) = pdf(tmp_path, members)
    assert json.loads(row.document.meta)["image_metadata"] == entries
    assert len(row.document.images) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(picture(0)), "frames_mismatch"),
        (tiff(picture(0), picture(1), picture(2)), "frames_mismatch"),
        (b"II*\0 cut off", "broken_tiff"),
        (b"", "broken_tiff"),
        (None, "no_tiff"),
    ],
)
def test_without_a_frame_for_every_picture_none_is_guessed(tmp_path, content, reason):
    members = sample("a", PDF) + ([] if content is None else [("a.tiff", content)])
    (row,) = pdf(tmp_path, members)
    assert [error.reason for error in row.lost] == [reason] * 2
    assert row.document.texts == ("First.", "Then.")
    assert row.document.images == ()


def test_samples_that_are_no_document_are_rejected_and_the_rest_is_read(tmp_path):
    good = sample("good", PDF, picture(0), picture(1))
    rows = pdf(
        tmp_path,
        [
            ("lonely.tiff", tiff(picture(0))),
            *sample("twice", PDF),
            *sample("twice", PDF),
            ("broken.json", b'{"texts": ['),
            ("list.json", b"[]"),
            *sample("uneven", PDF | {"texts": []}, picture(0)),
            *good,
            *sample("words", PDF | {"images": [None], "texts": ["only words"], "image_metadata": []}),
            ("words.log", b"?"),
        ],
    )
    reasons = [getattr(row.document, "reason", None) for row in rows]
    assert reasons == [
        "broken_sample",
        "broken_sample",
        "broken_json",
        "not_an_object",
        "mismatched_lengths",
        None,
        None,
    ]
    assert rows[2].place == "CC-MAIN-20230527223515-20230528013515-00007.tar!broken.json"
    assert json.loads(rows[-1].document.meta)["other_members"] == ["words.log"]
    assert len({row.document.id for row in rows[-2:]}) == 2


def test_two_samples_of_one_name_keep_their_own_pictures(tmp_path):
    one, two = ([picture(seed), picture(seed + 1)] for seed in (0, 4))
    members = [*sample("same", PDF, *one), *sample("other", PDF, *one), *sample("same", PDF, *two)]
    images = [image for row in pdf(tmp_path, members) for image in row.document.images]
    assert len({image.url for image in images}) == len(images) == 6
    with Pixels.open(io.BytesIO(Carrier.parse(images[-1].carrier).read(1 << 20))) as frame:
        assert np.array_equal(np.asarray(frame), np.asarray(two[1]))


def test_a_json_over_the_limit_is_not_read(tmp_path):
    path = write_tar(tmp_path / "x.tar", sample("a", PDF, picture(0), picture(1)))
    (row,) = rows_of(path, max_json_nbytes=100)
    assert row.document.reason == "line_too_long"


def test_a_torn_tar_fails_alone_and_is_made_once_repaired(tmp_path):
    src, out = tmp_path / "src", tmp_path / "out"
    for number in range(3):
        write_tar(src / f"CC-MAIN-1-2-0000{number}.tar", sample(f"{number}", PDF, picture(0), picture(1)))
    torn = src / "CC-MAIN-1-2-00001.tar"
    whole = torn.read_bytes()
    step = Ingest(format="mint1t")
    for length in (len(whole) // 2, 0):
        torn.write_bytes(whole[:length])
        assert list(ingest(src, out, step, Engine()).failed) == [torn.name]
    with pytest.raises(ShardError, match="torn or no tar"):
        rows_of(torn)
    torn.write_bytes(whole)
    manifest = ingest(src, out, step, Engine())
    assert (manifest.failed, len(read_documents(out))) == ({}, 3)


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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
