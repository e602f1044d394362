"""Sources and stores read from object storage what they read from a disk."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lcl_data import files
from lcl_data.carriers import Carrier
from lcl_data.download import Download, download
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from lcl_data.sources import Source
from lcl_data.sources.html import Html
from lcl_data.sources.laion import Laion
from lcl_data.sources.mmc4 import Mmc4
from lcl_data.sources.webdataset import Webdataset
from schemas.documents import Document, Image
from tests.lcl_data.corpus import bytes_of
from tests.lcl_data.sharding import picture
from tests.storage import Storage

PICTURES = [picture(seed) for seed in range(6)]
PAGE = {"image_info": [], "text_list": ["one", "two"], "url": "http://h.example/", "similarity_matrix": []}


def tar(folder: Path) -> None:
    with tarfile.open(folder / "00007.tar", "w") as file:
        for number, content in enumerate(PICTURES):
            for name, data in ((f"{number}.jpg", content), (f"{number}.txt", b"a boat")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))


def pages(folder: Path) -> None:
    outside = "<img src='../../secret.png'><img src='s3%3A//other/x.png'><img src='s3:%2F/other/x.png'>"
    (folder / "a-b").mkdir()
    (folder / "a").mkdir()
    for name in ("a/1.html", "a-b/2.html", "3.html"):
        text = f"<html><body><article><p>{'words of a page ' * 40}</p><img src='/x y.png'>{outside}</article>"
        (folder / name).write_text(text)
    (folder / "x y.png").write_bytes(PICTURES[0])


def tables(folder: Path) -> None:
    lines = "".join(f"a boat {n}\thttp://h.example/{n}.jpg\n" for n in range(1500)).encode()
    (folder / "a.tsv").write_bytes(lines)
    (folder / "b.tsv.gz").write_bytes(gzip.compress(lines))
    columns = {"url": [f"http://h.example/{n}.jpg" for n in range(50)], "caption": ["a boat"] * 50}
    pq.write_table(pa.table(columns), folder / "c.parquet", row_group_size=10)


def zips(folder: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("docs_shard_3_v2.jsonl", json.dumps(PAGE))
    with zipfile.ZipFile(folder / "docs_shard_1_v2.jsonl.zip", "w") as file:
        file.writestr("docs_shard_1_v2.jsonl", json.dumps(PAGE) + "\nbroken\n")
    with zipfile.ZipFile(folder / "all.zip", "w") as file:
        file.writestr("docs_shard_3_v2.jsonl.zip", inner.getvalue())


CASES = {
    "webdataset": (Webdataset(), tar),
    "html": (Html(), pages),
    "laion": (Laion(nbytes_per_shard=20_000), tables),
    "mmc4": (Mmc4(), zips),
}


def rows(source: Source, src: Path) -> Iterator[tuple[int, str, str, object, list[str]]]:
    for unit in source.units(src):
        for row in source.read(unit):
            lost = [error.reason for error in row.lost]
            yield unit.number, unit.name, row.place, moved(row.document, src), lost


def moved(found: object, src: Path) -> object:
    """A document as if its carriers lay nowhere in particular."""
    if not isinstance(found, Document):
        return str(found).replace(str(src), "")
    items = [
        item._replace(carrier=item.carrier and item.carrier.replace(str(src.resolve()), ""))
        if isinstance(item, Image)
        else item
        for item in found.items
    ]
    return replace(found, items=tuple(items))


def both(storage: Storage, tmp_path: Path, fill: Callable[[Path], None]) -> tuple[Path, Path]:
    near = tmp_path / "www"
    near.mkdir()
    fill(near)
    bucket = storage.bucket(f"source-{fill.__name__}-{abs(hash(str(tmp_path)))}")
    storage.upload(tmp_path, bucket)
    return near, files.place(f"{bucket}/www")


@pytest.mark.parametrize("case", CASES)
def test_a_source_reads_the_rows_of_a_disk(case: str, storage: Storage, tmp_path: Path) -> None:
    source, fill = CASES[case]
    near, far = both(storage, tmp_path, fill)
    found = list(rows(source, far))
    assert found == list(rows(source, near)) and len(found) > 2


def test_carried_pictures_come_out_of_storage(storage: Storage, tmp_path: Path) -> None:
    near, far = both(storage, tmp_path, tar)
    (unit,) = Webdataset().units(far)
    documents = [row.document for row in Webdataset().read(unit) if isinstance(row.document, Document)]
    carriers = [Carrier.parse(image.carrier or "") for each in documents for image in each.images]
    assert [carrier.read(1 << 20) for carrier in carriers] == PICTURES
    work = files.place(f"{far.parent}/work")
    for src, out in ((near, tmp_path / "work"), (far, work)):
        ingest(src, out / "documents", Ingest(format="webdataset"), Engine())
        made = download(out / "documents", out / "images", Download(), Engine())
        assert made.ledger.images.kept == len(PICTURES)
    tars = [bytes_of(folder / "images")["00000.tar"] for folder in (tmp_path / "work",)]
    assert [(work / "images" / "00000.tar").read_bytes()] == tars
