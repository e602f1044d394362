"""Perceptual hashes of JPEG bytes: ours, ours from a reduced decode, imagehash's and imagededup's.

    python benchmarks/image_hash.py FOLDER [--images 1000] [--side 512] [--runs 5] [--seed 0] [--peers PYTHON]

FOLDER holds pictures; a seeded choice of them is enlarged to `--side` (short side, as on the web) and encoded
once. Each method hashes all of them in one process of one thread, then every other of them in each of two
processes at once; methods take turns. Images a second of wall time, medians over the runs, bytes in memory
and libraries imported. Beside the rates: how far each hash lies from imagehash's of the same bytes, and from
its own after a re-encoding (80 % of the size, quality 45): equal recall is an equal second figure. `--peers`
is an interpreter that has imagededup.
"""

import argparse
import io
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import imagehash
import numpy as np
from PIL import Image

from lcl_data.phash import drafted, phash

Hash = Callable[[bytes], int]
Run = Callable[[Sequence[bytes], int], tuple[list[int], float]]
_FORKED: dict[str, Any] = {}  # what a forked process inherits: no bytes are sent
PEER = """
import io, json, multiprocessing, sys, time
import numpy as np
from PIL import Image
from imagededup.methods import PHash
folder, count, processes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
method = PHash(verbose=False)
contents = [open(f"{folder}/{n}.jpg", "rb").read() for n in range(count)]
def hashed(start):
    return [one(content) for content in contents[start::processes]]
def one(content):
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    return int(method.encode_image(image_array=pixels), 16)
with multiprocessing.get_context("fork").Pool(processes) as pool:
    pool.map(one, contents[:processes], 1)
    began = time.perf_counter()
    found = pool.map(hashed, range(processes), 1)
    wall = time.perf_counter() - began
out = [0] * count
for start, share in enumerate(found):
    out[start::processes] = share
print(json.dumps({"hashes": out, "wall": wall}))
"""


def encoded(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def pictures(folder: Path, count: int, side: int, seed: int) -> tuple[list[bytes], list[bytes]]:
    """Bytes as published, and the same pictures encoded again."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    originals, copies = [], []
    for path in random.Random(seed).sample(paths, min(count, len(paths))):
        image = Image.open(path).convert("RGB")
        scale = side / min(image.size)
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
        )
        originals.append(encoded(image, 85))
        smaller = image.resize((image.width * 4 // 5, image.height * 4 // 5), Image.Resampling.LANCZOS)
        copies.append(encoded(smaller, 45))
    return originals, copies


def ours(content: bytes) -> int:
    return phash(Image.open(io.BytesIO(content)))


def from_bytes(content: bytes) -> int:
    return phash(drafted(Image.open(io.BytesIO(content))))


def theirs(content: bytes) -> int:
    return int(str(imagehash.phash(Image.open(io.BytesIO(content)))), 16)


def timed(work: Hash) -> Run:
    """Hashes of all contents by so many processes at once, and the seconds that took."""

    def run(contents: Sequence[bytes], processes: int) -> tuple[list[int], float]:
        _FORKED.update(work=work, contents=contents, processes=processes)
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            pool.map(work, contents[:processes], 1)
            began = time.perf_counter()
            found = pool.map(_share, range(processes), 1)
            wall = time.perf_counter() - began
        hashes = [0] * len(contents)
        for start, share in enumerate(found):
            hashes[start::processes] = share
        return hashes, wall

    return run


def _share(start: int) -> list[int]:
    work, contents, processes = (_FORKED[name] for name in ("work", "contents", "processes"))
    return [work(content) for content in contents[start::processes]]


def peer(python: str) -> Run:
    """The same by imagededup, which wants arrays of three colours."""

    def run(contents: Sequence[bytes], processes: int) -> tuple[list[int], float]:
        with tempfile.TemporaryDirectory() as folder:
            for number, content in enumerate(contents):
                Path(folder, f"{number}.jpg").write_bytes(content)
            command = [python, "-c", PEER, folder, str(len(contents)), str(processes)]
            out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return out["hashes"], out["wall"]

    return run


def measured(methods: dict[str, Run], originals: Sequence[bytes], runs: int) -> dict[str, list[float]]:
    """Images a second of each method with one process and with two: medians, methods in turn."""
    walls: dict[tuple[str, int], list[float]] = {}
    for _ in range(runs):
        for processes in (1, 2):
            for name, run in methods.items():
                walls.setdefault((name, processes), []).append(run(originals, processes)[1])
    return {
        name: [len(originals) / statistics.median(walls[name, processes]) for processes in (1, 2)]
        for name in methods
    }


def shares(one: Sequence[int], two: Sequence[int]) -> dict[str, float]:
    apart = np.bitwise_count(np.array(one, np.uint64) ^ np.array(two, np.uint64))
    return {f"within {bits}": round(float((apart <= bits).mean()), 4) for bits in (0, 2, 4, 8)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", default="")
    options = parser.parse_args()
    originals, copies = pictures(options.folder, options.images, options.side, options.seed)
    hashes = {"imagehash": theirs, "ours": ours, "ours, reduced decode": from_bytes}
    methods = {name: timed(work) for name, work in hashes.items()}
    if options.peers:
        methods["imagededup"] = peer(options.peers)
    rates = measured(methods, originals, options.runs)
    base = rates["imagehash"][0]
    reference = methods["imagehash"](originals, 2)[0]
    print("| hash | images/s, 1 process | 2 | to imagehash's one | near imagehash's | re-encoded |")
    print("|---|---|---|---|---|---|")
    for name, run in methods.items():
        found, again = run(originals, 2)[0], run(copies, 2)[0]
        near, own = (
            ", ".join(f"{bits} {share}" for bits, share in shares(*pair).items())
            for pair in ((reference, found), (found, again))
        )
        one, two = rates[name]
        print(f"| {name} | {one:.0f} | {two:.0f} | {one / base:.1f}, {two / base:.1f} | {near} | {own} |")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
