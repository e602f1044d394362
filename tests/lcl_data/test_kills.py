"""A filter that is killed at any moment goes on, and gives what an undisturbed one gives."""

import subprocess
import sys
import time

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.image_size import ImageSize
from schemas.documents import Image
from tests.lcl_data.corpus import bytes_of, document, write_documents, write_store

RUN = """
import sys
from pathlib import Path
from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.image_size import ImageSize
docs, out, images = map(Path, sys.argv[1:])
filter_documents(docs, out, (ImageSize(),), Engine(), images=images)
"""


def test_killed_and_run_again_the_bytes_are_the_same(tmp_path):
    names = [f"http://h/{n}" for n in range(50)]
    images = write_store(
        tmp_path / "images",
        *({"url": u, "original_width": 100 + 9 * i, "original_height": 200} for i, u in enumerate(names)),
    )
    corpus = [[document(100 * s + n, Image(names[n % 50]), "text") for n in range(50)] for s in range(20)]
    docs = write_documents(tmp_path / "in", corpus)
    filter_documents(docs, tmp_path / "calm", (ImageSize(),), Engine(), images=images)
    out = tmp_path / "out"
    for marks in ("exchange/*/keys/00010", "00010.parquet"):
        run = subprocess.Popen([sys.executable, "-c", RUN, docs, out, images])
        while run.poll() is None and not list(out.glob(marks)):
            time.sleep(0.002)
        run.kill()
        run.wait()
    filter_documents(docs, out, (ImageSize(),), Engine(), images=images)
    assert bytes_of(out) == bytes_of(tmp_path / "calm")
