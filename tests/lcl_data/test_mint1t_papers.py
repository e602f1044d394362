"""MINT-1T's PDF and ArXiv: documents in tars, whose pictures are the frames of a TIFF."""

import io
import json

import numpy as np
import pytest
from PIL import Image as Pixels

from lcl_data.carriers import Carrier
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from schemas.documents import Image
from schemas.errors import ShardError
from tests.lcl_data.corpus import read_documents
from tests.lcl_data.mint import (
    PDF,
    pdf,
    picture,
    rows_of,
    sample,
    tiff,
    write_tar,
)


def test_frames_are_the_pictures_in_their_order_and_every_field_stays(tmp_path):
    shapes = [(32, 24), (8, 40)]
    (row,) = pdf(tmp_path, sample("5f3a", PDF, *(picture(k, size) for k, size in enumerate(shapes))))
    document = row.document
    assert [type(item) for item in document.items] == [str, Image, str, Image]
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
