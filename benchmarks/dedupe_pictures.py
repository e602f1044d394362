"""Pictures for dedupe_quality.py: those of a dump, fetched, and whether two are the same by other means than
those of the rules.
"""

import io
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from lcl_data.download import Download, download
from lcl_data.engine import Engine
from lcl_data.fetch import Fetch
from lcl_data.filter import filter_documents
from lcl_data.store import read_pictures

PORT = 8767
BASE = f"http://127.0.0.1:{PORT}"
_SIDE, _WINDOW = 192, 8  # of a picture as it is judged, pixels
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # SSIM's own constants (Wang et al. 2004)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(www: Path) -> Iterator[None]:
    """The pictures of a dump on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", PORT), partial(_Quiet, directory=str(www)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class Pictures:
    """The pictures of a dump: fetched, and attached to its documents."""

    def __init__(self, docs: Path, www: Path, work: Path) -> None:
        self.store = work / "store"
        self.docs = work / "attached"
        with serving(www):
            fetch = Fetch(allow_private=True, per_host=64, retries=0)
            download(docs, self.store, Download(fetch=fetch), Engine())
        filter_documents(docs, self.docs, (), Engine(), self.store)
        frame = pl.concat(
            pl.read_parquet(path, columns=["items"])
            .with_row_index("document")
            .with_columns(pl.col("document").cast(pl.UInt64) + (int(path.stem) << 32))
            for path in sorted(self.docs.glob("*.parquet"))
        )
        # Of (document, item): the picture's URL, its key in the store and the hash of its bytes.
        self.items = {
            (document, place): (item["image"]["url"], item["image"]["key"], item["image"]["sha256"])
            for document, items in frame.iter_rows()
            for place, item in enumerate(items)
            if item["image"] is not None
        }
        held = {(sha256, document) for (document, _), (*_, sha256) in self.items.items()}
        self.documents = Counter(sha256 for sha256, _ in held)  # how many hold a picture

    def seen(self, key: str) -> np.ndarray:
        """A stored picture as it is judged: grey, squeezed, brightness and contrast made equal."""
        image = Image.open(io.BytesIO(read_pictures(self.store, [key])[key])).convert("L")
        grey = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
        return (grey - grey.mean()) * (48 / max(grey.std(), 1)) + 128

    def ssim(self, one: str, other: str) -> float:
        """Mean structural similarity of two stored pictures."""
        a, b = self.seen(one), self.seen(other)
        mean_a, mean_b, square_a, square_b, product = map(_windows, (a, b, a * a, b * b, a * b))
        shared = product - mean_a * mean_b
        spread = square_a - mean_a**2 + square_b - mean_b**2
        light = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
        return float((light * (2 * shared + _C2) / (spread + _C2)).mean())


def families(pairs: Iterable[frozenset[str]]) -> dict[str, str]:
    """A name for each planted picture that its copies share: of a chain of copies, too."""
    first: dict[str, str] = {}
    for pair in pairs:
        one, other = sorted(pair)
        old, new = first.get(other, other), first.get(one, one)
        first |= {one: new, other: new} | {url: new for url, name in first.items() if name == old}
    return first


def _windows(values: np.ndarray) -> np.ndarray:
    """The mean of every window."""
    sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    size = _WINDOW
    return (sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]) / size**2
