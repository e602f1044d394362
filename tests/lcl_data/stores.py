"""Pictures on a real server, documents that point at them, and what of an image store is compared."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image as Pixels

from lcl_data.download import Download
from lcl_data.fetch import Fetch
from lcl_data.store import facts
from schemas.documents import Image
from tests.lcl_data.corpus import document, write_documents
from tests.lcl_data.loopback import Answer, Loopback

SETTINGS = Download(
    fetch=Fetch(allow_private=True, backoff_s=0.01, timeout_s=5, retries=1), images_per_shard=10
)


def picture(seed: int, side: int = 40, form: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pixels.fromarray(pixels).resize((side, side)).save(file, form)
    return file.getvalue()


def write_docs(folder: Path, urls: list[str], per_document: int = 3) -> Path:
    parts = [urls[start : start + per_document] for start in range(0, len(urls), per_document)]
    documents = [document(row, "text", *map(Image, part)) for row, part in enumerate(parts)]
    half = len(documents) // 2
    return write_documents(folder, [documents[:half], documents[half:]])


def rows(store: Path) -> dict[str, dict]:
    return {row["url"]: row for path in facts(store) for row in pq.read_table(path).to_pylist()}


def contents(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()
    }


def serve_pictures(server: Loopback, count: int, **answer: float) -> list[str]:
    return [server.serve(f"/{n}.jpg", Answer(picture(n), **answer)) for n in range(count)]
