"""Measuring pixels of an image store: beside it, once, resumable, whoever made the store."""

import os
import subprocess
import sys
import time

import polars as pl
import pytest

from lcl_data import files, measure, store
from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.image_blur import ImageBlur
from lcl_data.filters.image_format import ImageFormat
from lcl_data.filters.image_qr import ImageQr
from lcl_data.filters.image_uniform import ImageUniform
from lcl_data.folders import claim
from lcl_data.report import report
from lcl_data.verify import verify
from schemas.documents import Image
from schemas.errors import RecipeError, ShardError
from schemas.pixels import PIXEL_FACTS
from tests.lcl_data.corpus import bytes_of, document, read_documents, write_documents
from tests.lcl_data.drawn import address, blank, blurred, encoded, flyer, landscape, picture_store
from tests.lcl_data.test_store import img2datasets_folder

ALL = (ImageUniform(), ImageBlur(), ImageQr())
GOOD, BLURRED, BLANK, FLYER = (encoded(each) for each in (landscape(), blurred(), blank(), flyer()))
BROKEN = GOOD[:2000]
SHARDS = [[GOOD, BLURRED, None, FLYER], [], [BLANK, BROKEN, GOOD]]


def measured(images, engine=None):
    """The tables of a store, by name."""
    measure.measure(images, images / measure.FOLDER, engine or Engine())
    return bytes_of(images / measure.FOLDER)


def documents(folder, shards=SHARDS):
    """A document per picture, with a text."""
    places = [(shard, row) for shard, contents in enumerate(shards) for row in range(len(contents))]
    made = [document(n, "text", Image(address(*place))) for n, place in enumerate(places)]
    return write_documents(folder, [made[:3], made[3:]])


def kept(folder):
    return [each.images[0].url for each in read_documents(folder) if each.images]


def test_filters_cut_on_pixels_and_every_picture_is_accounted_for(tmp_path):
    images, docs = picture_store(tmp_path / "images", SHARDS), documents(tmp_path / "docs")
    found = filter_documents(docs, tmp_path / "out", ALL, Engine(), images=images).ledger.images
    assert kept(tmp_path / "out") == [address(0, 0), address(2, 2)]
    assert found.balances and found.rejected == {
        "download:http_404": 1,
        "image_blur:blurred": 1,
        "image_qr:too_large": 1,
        "image_uniform:plain": 1,
        "image_uniform:unmeasured": 1,  # what is stored cannot be decoded
    }
    assert verify(tmp_path).problems == []


def test_a_report_measures_too_and_shows_what_it_found(tmp_path):
    images, docs = picture_store(tmp_path / "images", SHARDS), documents(tmp_path / "docs")
    told = report(docs, ALL, Engine(), images=images)
    spread = told.facts["image"]["pixel_sharpness"]
    assert (spread.measured, spread.unmeasured) == (5, 1)
    assert told.facts["image"].keys() == {
        "pixel_sharpness",
        "pixel_contrast",
        "pixel_plain_share",
        "pixel_qr_share",
    }
    cut = filter_documents(docs, tmp_path / "out", ALL, Engine(), images=images)
    assert told.ledger == cut.ledger


def test_nothing_is_measured_that_no_filter_asks_for(tmp_path):
    images, docs = picture_store(tmp_path / "images", SHARDS), documents(tmp_path / "docs")
    filter_documents(docs, tmp_path / "out", (ImageFormat(),), Engine(), images=images)
    assert not (images / measure.FOLDER).exists()


def test_without_a_store_there_is_nothing_to_measure(tmp_path):
    docs = documents(tmp_path / "docs")
    with pytest.raises(RecipeError, match="image_blur: judges pixels; name the image store"):
        filter_documents(docs, tmp_path / "out", (ImageFormat(), ImageBlur()), Engine())
    assert not (tmp_path / "out").exists()


def test_workers_do_not_change_a_byte(tmp_path):
    shards = [[encoded(landscape(seed, (64, 48))) for seed in range(3)] for _ in range(6)]
    one, two = (picture_store(tmp_path / name, shards) for name in ("one", "two"))
    assert measured(one) == measured(two, Engine(2))
    docs = documents(tmp_path / "docs", shards)
    first = filter_documents(docs, tmp_path / "a", ALL, Engine(), images=one)
    assert filter_documents(docs, tmp_path / "b", ALL, Engine(2), images=two) == first
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_tables_follow_the_rows_of_the_store(tmp_path):
    images = picture_store(tmp_path / "images", SHARDS)
    measured(images)
    for number, contents in enumerate(SHARDS):
        table = pl.read_parquet(images / f"pixels/{number:05d}.parquet")
        assert table["key"].to_list() == [row["key"] for row in store.read_rows(images, number, ["key"])]
        nulls = [all(value is None for value in row[1:]) for row in table.rows()]
        assert nulls == [content in (None, BROKEN) for content in contents]
        assert table.columns == ["key", *PIXEL_FACTS]


def test_only_what_changed_is_measured_again(tmp_path):
    images = picture_store(tmp_path / "images", SHARDS)
    before = measured(images)
    times = {path.name: path.stat().st_mtime_ns for path in (images / "pixels").iterdir()}
    (images / "pixels/00099.parquet").write_bytes(b"of a shard that is no more")
    (images / "pixels/.tmp-draft").write_bytes(b"of a run that was killed long ago")
    os.utime(images / "pixels/.tmp-draft", (0, 0))
    assert measured(images) == before
    assert {path.name: path.stat().st_mtime_ns for path in (images / "pixels").iterdir()} == times
    picture_store(images, [SHARDS[0], [GOOD], SHARDS[2]])
    after = measured(images)
    assert [name for name in after if after[name] != before[name]] == ["00001.parquet"]
    (images / "pixels/00002.parquet").write_bytes(after["00002.parquet"][:-9])
    assert measured(images) == after


def test_a_torn_tar_is_told_once_the_others_are_measured(tmp_path):
    images = picture_store(tmp_path / "images", SHARDS)
    os.truncate(images / "00000.tar", 700)
    with pytest.raises(ShardError, match=r"00000\.tar: ends within"):
        measured(images)
    assert sorted(bytes_of(images / "pixels")) == ["00001.parquet", "00002.parquet"]


def test_a_folder_that_img2dataset_made_is_measured_beside_its_own_files(tmp_path):
    folder = img2datasets_folder(tmp_path / "theirs")
    before = bytes_of(folder)
    urls = [f"http://a.example/{n}.jpg" for n in (1, 2, 3)]
    docs = write_documents(tmp_path / "docs", [[document(0, "text", *map(Image, urls))]])
    everything = (ImageBlur(min_sharpness=0), ImageUniform(max_plain_share=1, min_contrast=0))
    found = filter_documents(docs, tmp_path / "out", everything, Engine(), images=folder).ledger.images
    assert found.kept == 2 and found.rejected == {"download:http_404": 1}
    assert before.items() <= bytes_of(folder).items()
    assert (folder / "pixels/00000.parquet").exists()
    again = filter_documents(docs, tmp_path / "again", everything, Engine(), images=folder).ledger.images
    assert again == found


def test_a_store_that_cannot_be_written_is_measured_elsewhere(tmp_path, monkeypatch):
    images, docs = picture_store(tmp_path / "images", SHARDS), documents(tmp_path / "docs")
    before = bytes_of(images)
    monkeypatch.setattr(measure.os, "access", lambda path, mode: False)
    filter_documents(docs, tmp_path / "out", ALL, Engine(), images=images)
    assert bytes_of(images) == before and not (tmp_path / "out/exchange").exists()
    assert kept(tmp_path / "out") == [address(0, 0), address(2, 2)]


def test_a_download_may_still_fill_a_store_that_was_measured(tmp_path):
    images = picture_store(tmp_path / "images", SHARDS)
    measured(images)
    claim(images, "download")
    for path in (*images.glob("*.*"), *images.glob("rejects/*")):  # killed before its first shard
        path.unlink()
    claim(images, "download")


RUN = """
import sys
from pathlib import Path
from lcl_data.engine import Engine
from lcl_data.measure import measure
measure(Path(sys.argv[1]), Path(sys.argv[1]) / "pixels", Engine())
"""


def test_killed_and_run_again_the_bytes_are_the_same(tmp_path):
    shards = [[encoded(landscape(seed, (200, 150))) for seed in range(15)]] * 12
    calm, images = (picture_store(tmp_path / name, shards) for name in ("calm", "images"))
    whole = measured(calm)
    run = subprocess.Popen([sys.executable, "-c", RUN, images])
    while run.poll() is None and not (images / "pixels/00003.parquet").exists():
        time.sleep(0.002)
    run.kill()
    run.wait()
    left = {name: content for name, content in bytes_of(images / "pixels").items() if name[0] != "."}
    assert left and left.items() <= whole.items()
    found = measured(images)
    assert {name: found[name] for name in whole} == whole
    assert all(name.startswith(files.TEMPORARY) for name in found.keys() - whole.keys())
