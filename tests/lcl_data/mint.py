"""Rows and tars of the shape of MINT-1T's, and what its source reads in them."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pixels

from lcl_data.sources.mint1t import Mint1t

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
