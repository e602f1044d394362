"""A small corpus as the stages before `shard` leave it: a folder of documents and an image store."""

import hashlib
import io
import random
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow

from lcl_data.draft import DocumentWriter, Draft
from lcl_data.engine import Engine
from lcl_data.stage import Stage, Unit
from schemas.documents import Document, Image, Item, document_id, to_table
from schemas.images import IMAGES

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "1234",
    "naïve",
    "Größe",
    "<start_of_img>",
    "don't",
    "東京",
    "Ελλάδα",
    "<|endoftext|>",
    "&",
    "&amp;",
    "jumps",
]


def picture(seed: int, side: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def make_store(out: Path, contents: list[bytes], per_shard: int = 20) -> list[str]:
    """An image store of these pictures; answers their keys."""
    units = [
        Unit(n, f"{n}", contents[k : k + per_shard]) for n, k in enumerate(range(0, len(contents), per_shard))
    ]
    Stage("download", out, {}, ()).run(_write_pictures, units, Engine())
    return [f"{k // per_shard:05d}{k % per_shard:04d}" for k in range(len(contents))]


def _write_pictures(unit: Unit, draft: Draft) -> None:
    rows = []
    with tarfile.open(draft.path(".tar"), "w") as tar:
        for number, content in enumerate(unit.payload):
            key = f"{unit.number:05d}{number:04d}"
            member = tarfile.TarInfo(f"{key}.jpg")
            member.size = len(content)
            offset = tar.offset + tarfile.BLOCKSIZE
            tar.addfile(member, io.BytesIO(content))
            sha256 = hashlib.sha256(content).hexdigest()
            rows.append({"url": f"http://x/{key}", "key": key, "status": "success", "offset": offset,
                         "nbytes": len(content), "sha256": sha256})  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=IMAGES), draft.path(".parquet"))
    draft.rows(".parquet", len(rows))


def make_documents(out: Path, shards: list[list[Document]]) -> None:
    units = [Unit(number, f"{number:05d}", documents) for number, documents in enumerate(shards)]
    Stage("ingest", out, {}, ()).run(_write_documents, units, Engine())


def _write_documents(unit: Unit, draft: Draft) -> None:
    with DocumentWriter(draft) as writer:
        images = sum(len(document.images) for document in unit.payload)
        writer.write(to_table(unit.payload), images)
    draft.count("documents").read = len(unit.payload)
    draft.count("images").read = images


def make_corpus(folder: Path, shards: int = 3, rows: int = 8, words: int = 12) -> tuple[Path, Path]:
    """Documents in MMC4's order (a picture before its sentence), some of whose pictures are missing."""
    keys = make_store(folder / "store", [picture(seed) for seed in range(50)])
    draw = random.Random(5)
    make = partial(_document, draw, keys, words)
    make_documents(folder / "docs", [[make(s, row) for row in range(rows)] for s in range(shards)])
    return folder / "docs", folder / "store"


def _document(draw: random.Random, keys: list[str], words: int, shard: int, row: int) -> Document:
    items: list[Item] = []
    for number in range(draw.randint(1, 6)):
        key = draw.choice([*keys, None, "00000999999"])
        if draw.random() < 0.7:
            items.append(Image(url=f"http://x/{number}", key=key, anchor=draw.choice([number, None])))
        items.append(" ".join(draw.choices(WORDS, k=draw.randint(1, words))))
    url = draw.choice([None, "http://page/"])
    return Document(document_id("made", str(shard), row), draw.choice(["made", "other"]), tuple(items), url)
