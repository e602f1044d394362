"""The image store read by others and by us, and img2dataset's folders taken in."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pixels

from lcl_data import foreign, store
from lcl_data.download import Download, download, stage_of
from lcl_data.engine import Engine
from lcl_data.fetch import Fetch
from lcl_data.filter import filter_documents
from lcl_data.filters.image_bytes import ImageBytes
from lcl_data.shard import Shard, shard
from lcl_data.tokenizer import train
from schemas.documents import Image
from schemas.errors import RecipeError, ShardError
from schemas.images import SUCCESS
from schemas.manifest import read_manifest
from schemas.overrides import laid_over, settle
from tests.lcl_data.corpus import document, write_documents
from tests.lcl_data.loopback import Answer, running
from tests.lcl_data.test_download import contents, picture, write_docs

SETTINGS = Download(fetch=Fetch(allow_private=True, retries=0, timeout_s=5), images_per_shard=10)


def bomb():
    """A small file of 81 million pixels."""
    file = io.BytesIO()
    Pixels.new("1", (9000, 9000)).save(file, "PNG")
    return file.getvalue()


@given(st.from_regex(r"[ -.0-~]{1,120}", fullmatch=True), st.integers(0, 20 << 30))
def test_a_header_is_that_of_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    try:
        expected = info.tobuf(tarfile.USTAR_FORMAT)
    except ValueError as error:  # longer than the format can say
        with pytest.raises(ValueError, match=str(error)):
            store.tar_header(name, size)
    else:
        assert store.tar_header(name, size) == expected


def img2datasets_folder(folder, first=None):
    """A shard as img2dataset writes it: rows in order of completion, no contract in the metadata."""
    folder.mkdir()
    pictures = [picture(0) if first is None else first, picture(1)]
    urls = [
        "http://a.example/1.jpg",
        "http://a.example/2.jpg",
        "http://a.example/3.jpg",
        "http://b.example/4",
    ]
    keys = ["000000002", "000000000", "000000003", "000000001"]
    status = [SUCCESS, SUCCESS, "failed_to_download", "failed_to_resize"]
    errors = [None, None, "HTTP Error 404: Not Found", "Image decoding error"]
    sides = [40, 40, None, None]
    columns = {"url": urls, "key": keys, "status": status, "error_message": errors, "width": sides}
    columns |= {"height": sides, "original_width": sides, "original_height": sides, "exif": ["{}"] * 4}
    pq.write_table(pa.table(columns), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text(json.dumps({"count": 4, "start_time": 1.5}))
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for key, stored in zip(keys[:2], pictures, strict=True):
            for suffix, content in (("jpg", stored), ("json", b"{}"), ("txt", b"caption")):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size, info.mtime = len(content), 12345
                tar.addfile(info, io.BytesIO(content))
    return folder


def test_a_folder_img2dataset_made_is_indexed_beside_its_own_files(tmp_path):
    folder = img2datasets_folder(tmp_path / "theirs")
    before = contents(folder)
    with pytest.raises(ShardError, match="not indexed"):
        store.facts(folder)
    manifest = foreign.index(folder, Engine(1))
    assert before.items() <= contents(folder).items()
    (path,) = store.facts(folder)
    found = pq.read_table(path).to_pylist()
    assert [row["reason"] for row in found] == [None, "broken_image", None, "http_404"]
    stored = store.read_pictures(folder, {row["key"] for row in found})
    assert stored == {"000000000": picture(1), "000000002": picture(0)}
    for row in (found[0], found[2]):
        content = stored[row["key"]]
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        theirs = imagehash.phash(Pixels.open(io.BytesIO(content)))
        assert (row["phash"] ^ int(str(theirs), 16)).bit_count() <= 2
    assert manifest.ledger.images.rejected == {"broken_image": 1, "http_404": 1}
    assert manifest.ledger.images.balances
    assert foreign.index(folder, Engine(1)) == manifest == read_manifest(folder)


def test_a_folder_img2dataset_made_goes_through_filter_and_shard_as_it_is(tmp_path):
    folder = img2datasets_folder(tmp_path / "theirs")
    before = contents(folder)
    urls = [
        "http://a.example/1.jpg",
        "http://a.example/2.jpg",
        "http://a.example/3.jpg",
        "http://c.example/5",
    ]
    docs = write_docs(tmp_path / "docs", urls)
    for attempt in range(2):
        kept = filter_documents(docs, tmp_path / f"kept{attempt}", (), Engine(1), images=folder)
        assert kept.ledger.images.kept == 2 and kept.ledger.images.balances
        assert kept.ledger.images.rejected["download:http_404"] == 1
        assert "theirs: made by img2dataset; indexed" in kept.notes[0]
    assert contents(tmp_path / "kept0") == contents(tmp_path / "kept1")
    train(["the text of a document"], 300, tmp_path / "tokenizer.json")
    settings = Shard(tokenizer=str(tmp_path / "tokenizer.json"), containers=("webdataset",))
    made = shard(tmp_path / "kept0", folder, tmp_path / "shards", settings, Engine(1))
    assert made.ledger.images.kept == 2 and made.ledger.images.rejected == {}
    stored = []
    for path in sorted((tmp_path / "shards").glob("*.tar")):
        stored += [content for _, content in store.members(path)]
    assert sorted(stored) == sorted([picture(0), picture(1)])
    assert before.items() <= contents(folder).items()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (picture(0)[:-200], "truncated"),
        (b"<html>", "not_an_image"),
        (b"", "empty"),
        (bomb(), "too_many_pixels"),
    ],
)
def test_a_picture_of_img2datasets_that_cannot_be_decoded_fails_alone(tmp_path, content, reason):
    folder = img2datasets_folder(tmp_path / "theirs", content)
    ledger = foreign.index(folder, Engine(1)).ledger.images
    assert ledger.kept == 1 and ledger.balances
    assert ledger.rejected == {"broken_image": 1, "http_404": 1, reason: 1}
    found = {row["url"]: row for row in store.read_rows(folder, 0)}["http://a.example/1.jpg"]
    assert (found["status"], found["reason"]) == ("failed_to_resize", reason)
    assert found["error_message"] and found["offset"] is found["width"] is found["phash"] is None
    assert store.read_pictures(folder, ["000000000", "000000002"]) == {"000000000": picture(1)}
    docs = write_docs(tmp_path / "docs", ["http://a.example/1.jpg", "http://a.example/2.jpg"])
    kept = filter_documents(docs, tmp_path / "kept", (), Engine(1), images=folder)
    assert kept.ledger.images.rejected == {f"download:{reason}": 1}


def test_a_picture_that_img2dataset_lists_but_does_not_hold_fails_alone(tmp_path):
    folder = img2datasets_folder(tmp_path / "theirs")
    with tarfile.open(folder / "00000.tar") as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar if "000000002" not in info.name]
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    ledger = foreign.index(folder, Engine(1)).ledger.images
    assert ledger.kept == 1 and ledger.balances and ledger.rejected["not_in_tar"] == 1
    assert store.read_pictures(folder, ["000000000", "000000002"]) == {"000000000": picture(1)}


def test_a_row_of_img2datasets_without_an_address_is_counted_and_found_by_nobody(tmp_path):
    folder = img2datasets_folder(tmp_path / "theirs")
    listed = pq.read_table(folder / "00000.parquet")
    urls = pa.array([None, *listed["url"].to_pylist()[1:]], pa.string())
    pq.write_table(listed.set_column(0, "url", urls), folder / "00000.parquet")
    ledger = foreign.index(folder, Engine(1)).ledger.images
    assert (ledger.read, ledger.kept) == (4, 2) and ledger.balances
    docs = write_documents(tmp_path / "in", [[document(0, Image("http://a.example/2.jpg"), Image("gone"))]])
    assert filter_documents(docs, tmp_path / "out", [], Engine(1), images=folder).ledger.images.kept == 1


def test_the_stored_bytes_stand_in_where_img2dataset_does_not_know_the_originals(tmp_path):
    folder = img2datasets_folder(tmp_path / "theirs")
    docs = write_docs(tmp_path / "docs", ["http://a.example/1.jpg", "http://a.example/2.jpg"])
    sizes = sorted(len(picture(seed)) for seed in range(2))
    least = ImageBytes(min=sizes[1])
    kept = filter_documents(docs, tmp_path / "kept", (least,), Engine(1), images=folder)
    assert sizes[0] < sizes[1]
    assert kept.ledger.images.kept == 1 and kept.ledger.images.rejected == {"image_bytes:too_few": 1}


def test_a_folder_img2dataset_made_is_not_downloaded_over(tmp_path):
    folder = img2datasets_folder(tmp_path / "theirs")
    docs = write_docs(tmp_path / "docs", ["http://a.example/1.jpg"])
    before = contents(folder)
    with pytest.raises(RecipeError, match="made by img2dataset"):
        download(docs, folder, SETTINGS, Engine(1))
    assert contents(folder) == before


def test_a_folder_without_shards_has_nothing_to_index(tmp_path):
    with pytest.raises(RecipeError, match="img2dataset"):
        foreign.index(tmp_path, Engine(1))


@pytest.fixture
def filled(tmp_path):
    with running() as server:
        urls = [server.serve(f"/{n}", Answer(picture(n))) for n in range(5)]
        download(write_docs(tmp_path / "docs", urls), tmp_path / "store", SETTINGS, Engine(1))
    return tmp_path / "store"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_our_tars(filled):
    samples = list(webdataset.WebDataset(str(filled / "00000.tar"), shardshuffle=False))
    table = pq.read_table(filled / "00000.parquet").to_pylist()
    assert [sample["__key__"] for sample in samples] == [row["key"] for row in table]
    for sample, row in zip(samples, table, strict=True):
        assert hashlib.sha256(sample["jpg"]).hexdigest() == row["sha256"]
        assert json.loads(sample["json"])["url"] == row["url"]


def test_unknown_keys_are_left_out_and_a_torn_tar_is_an_error(filled):
    assert store.read_pictures(filled, ["000009"]) == {}
    os.truncate(filled / "00000.tar", 700)
    with pytest.raises(ShardError, match=r"00000\.tar"):
        store.read_pictures(filled, ["000000"])


def test_a_torn_table_is_an_error_that_names_it(filled):
    os.truncate(filled / "00000.parquet", 100)
    with pytest.raises(ShardError, match=r"00000\.parquet"):
        store.facts(filled)


@pytest.mark.slow  # its start alone takes 15 to 40 s
@pytest.mark.timeout(300)
def test_img2dataset_as_backend_lands_in_the_same_layout(tmp_path):
    pytest.importorskip("img2dataset")
    settings = SETTINGS.model_copy(update={"backend": "img2dataset", "images_per_shard": 100})
    with running() as server:
        urls = [server.serve(f"/{n}", Answer(picture(n, side=300))) for n in range(12)]
        urls += [server.url("/gone"), "file:///etc/hostname"]
        docs = write_docs(tmp_path / "docs", [*urls, urls[0]])
        manifest = download(docs, tmp_path / "store", settings, Engine(1))
        assert set(server.counts.values()) == {1}
    assert manifest.ledger.images.read == 15 and manifest.ledger.images.kept == 13
    assert manifest.ledger.images.rejected == {"http_404": 1, "bad_scheme": 1}
    rows = [row for path in store.facts(tmp_path / "store") for row in pq.read_table(path).to_pylist()]
    stored = store.read_pictures(tmp_path / "store", [row["key"] for row in rows])
    assert {row["url"] for row in rows} == set(urls) and len(stored) == 12
    assert all(min(Pixels.open(io.BytesIO(content)).size) == 256 for content in stored.values())


def test_img2dataset_killed_at_its_work_is_run_again_in_its_folder_and_in_no_other(tmp_path):
    docs = write_docs(tmp_path / "docs", ["http://127.0.0.1/x"])
    (tmp_path / "store" / "img2dataset").mkdir(parents=True)
    (tmp_path / "store" / "img2dataset" / "log.txt").write_text("killed")
    assert stage_of(docs, tmp_path / "store", Download(backend="img2dataset"))[0].pending() == "never run"
    with pytest.raises(RecipeError, match="holds 'img2dataset'"):
        stage_of(docs, tmp_path / "store", Download())[0].pending()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"fetch": {"max_bytes": 1000, "per_host": 2}}, "fetch.per_host, fetch.max_bytes"),
        ({"fetch": {"user_agent": "me"}}, "fetch.user_agent"),
        ({"picture": {"resample": "lanczos"}}, "picture.resample"),
    ],
)
def test_a_setting_that_img2dataset_would_not_hold_is_refused(settings, named, tmp_path):
    pytest.importorskip("img2dataset")
    docs = write_docs(tmp_path / "docs", ["http://127.0.0.1/x"])
    chosen = settle(
        Download, laid_over({"backend": "img2dataset", "fetch": {"allow_private": True}}, settings)
    )
    with pytest.raises(RecipeError, match=f"nothing like {named}; leave it out"):
        download(docs, tmp_path / "store", chosen, Engine(1))


def test_img2dataset_as_backend_must_be_told_that_it_reaches_private_addresses(tmp_path):
    pytest.importorskip("img2dataset")
    docs = write_docs(tmp_path / "docs", ["http://127.0.0.1/x"])
    with pytest.raises(RecipeError, match="private addresses"):
        download(docs, tmp_path / "store", Download(backend="img2dataset"), Engine(1))


def test_decoding_processes_need_no_more_than_pillow_and_numpy():
    program = "import sys, lcl_data.decoders; print(*{'polars', 'pyarrow', 'aiohttp'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
