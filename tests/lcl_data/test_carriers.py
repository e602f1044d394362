"""Pictures that a source brings along: read from the disk, never named by a foreign row."""

import io
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pixels

from lcl_data.carriers import Carrier, carried_url
from lcl_data.download import Download, download
from lcl_data.engine import Engine
from lcl_data.store import facts
from schemas.documents import Image
from schemas.errors import ImageError, RecipeError
from tests.lcl_data.corpus import document, write_documents


@given(st.text(min_size=1), st.integers(0, 1 << 60), st.none() | st.integers(0, 1 << 60))
def test_a_carrier_is_its_text(path, offset, nbytes):
    carrier = Carrier(path, offset, nbytes)
    assert Carrier.parse(str(carrier)) == carrier


def test_a_carrier_reads_its_range_and_says_what_is_wrong(tmp_path):
    path = tmp_path / "all.bin"
    path.write_bytes(b"0123456789")
    assert Carrier(str(path), 2, 3).read(100) == b"234"
    assert Carrier(str(path), 7).read(100) == b"789"
    for carrier, limit, reason in [
        (Carrier(str(path), 8, 3), 100, "carrier_torn"),
        (Carrier(str(path), 0, 9), 8, "too_large"),
        (Carrier(str(path)), 9, "too_large"),
        (Carrier(str(tmp_path / "gone")), 9, "carrier_missing"),
    ]:
        with pytest.raises(ImageError) as told:
            carrier.read(limit)
        assert told.value.reason == reason and carrier.path in told.value.detail


def packed(path: Path, colours: list[str]) -> dict[str, Carrier]:
    with tarfile.open(path, "w") as archive:
        for colour in colours:
            file = io.BytesIO()
            Pixels.new("RGB", (40, 30), colour).save(file, "PNG")
            info = tarfile.TarInfo(f"{colour}.png")
            info.size = file.tell()
            file.seek(0)
            archive.addfile(info, file)
    with tarfile.open(path) as archive:
        return {info.name: Carrier(str(path), info.offset_data, info.size) for info in archive}


def test_download_takes_carried_pictures_from_the_disk_and_asks_no_network(tmp_path):
    carriers = packed(tmp_path / "pairs.tar", ["red", "green", "blue"])
    images = [Image(carried_url("pairs.tar", name), carrier=str(c)) for name, c in carriers.items()]
    gone = Image("carried:pairs.tar/gone.png", carrier=str(Carrier(str(tmp_path / "gone.tar"))))
    plain = Image("carried:pairs.tar/red.jpg")  # what a foreign row might claim
    foreign = Image(f"file://{tmp_path}/pairs.tar")
    documents = [document(0, "text", *images, gone), document(1, "text", images[0], plain, foreign)]
    docs = write_documents(tmp_path / "docs", [documents])
    manifest = download(docs, tmp_path / "store", Download(images_per_shard=10), Engine(1))
    images = manifest.ledger.images
    assert (images.read, images.kept) == (7, 4)
    assert images.rejected == {"bad_scheme": 2, "carrier_missing": 1}
    (table,) = facts(tmp_path / "store")
    rows = {row["url"]: row for row in pq.read_table(table).to_pylist()}
    red = rows["carried:pairs.tar/red.png"]
    assert (red["references"], red["original_width"], red["format"]) == (2, 40, "png")


def test_a_picture_that_one_document_carries_is_used_for_all_that_point_at_it(tmp_path):
    (carrier,) = packed(tmp_path / "pairs.tar", ["red"]).values()
    image = Image("http://nowhere.invalid/red.png")
    carried = image._replace(carrier=str(carrier))
    docs = write_documents(tmp_path / "docs", [[document(0, "a", image)], [document(1, "b", carried)]])
    manifest = download(docs, tmp_path / "store", Download(images_per_shard=10), Engine(1))
    assert manifest.ledger.images.kept == 2


def test_img2dataset_is_not_asked_for_what_it_cannot_read(tmp_path):
    pytest.importorskip("img2dataset")
    (carrier,) = packed(tmp_path / "pairs.tar", ["red"]).values()
    docs = write_documents(tmp_path / "docs", [[document(0, "a", Image("http://a/", carrier=str(carrier)))]])
    settings = Download(backend="img2dataset", fetch={"allow_private": True})
    with pytest.raises(RecipeError, match="backend lcl"):
        download(docs, tmp_path / "store", settings, Engine(1))
