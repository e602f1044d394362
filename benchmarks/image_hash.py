"""Perceptual hashes of JPEG bytes: ours, ours from a reduced decode, imagehash's and imagededup's.

    python benchmarks/image_hash.py FOLDER [--images 1000] [--side 512] [--seed 0] [--peers PYTHON] [--json]

FOLDER holds pictures; a seeded choice of them is enlarged to `--side` (short side, as on the web) and encoded
once. CPU seconds of one process with one thread, because other programs share the cores. Beside the rate:
how far each hash lies from imagehash's of the same bytes, and from its own after a re-encoding (80 % of the
size, quality 45): equal recall is an equal second figure. `--peers` is an interpreter that has imagededup.
"""

import argparse
import io
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcl_data.phash import drafted, phash

Hash = Callable[[bytes], int]
PEER = """
import json, sys, time, io
import numpy as np
from PIL import Image
from imagededup.methods import PHash
folder, count = sys.argv[1], int(sys.argv[2])
method = PHash(verbose=False)
out = []
contents = [open(f"{folder}/{n}.jpg", "rb").read() for n in range(count)]
began = time.process_time()
for content in contents:
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    out.append(int(method.encode_image(image_array=pixels), 16))
print(json.dumps({"hashes": out, "cpu": time.process_time() - began}))
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


def timed(work: Hash, contents: Sequence[bytes]) -> tuple[NDArray[np.uint64], float]:
    work(contents[0])
    began = time.process_time()
    hashes = [work(content) for content in contents]
    return np.array(hashes, np.uint64), time.process_time() - began


def peer(python: str, contents: Sequence[bytes]) -> tuple[NDArray[np.uint64], float]:
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(contents):
            Path(folder, f"{number}.jpg").write_bytes(content)
        command = [python, "-c", PEER, folder, str(len(contents))]
        out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return np.array(out["hashes"], np.uint64), out["cpu"]


def shares(one: NDArray[np.uint64], two: NDArray[np.uint64]) -> dict[str, float]:
    apart = np.bitwise_count(one ^ two)
    return {f"within {bits}": round(float((apart <= bits).mean()), 4) for bits in (0, 2, 4, 8)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    originals, copies = pictures(options.folder, options.images, options.side, options.seed)
    methods = {"imagehash": theirs, "ours": ours, "ours, from bytes": from_bytes}
    runs = {name: lambda contents, work=work: timed(work, contents) for name, work in methods.items()}
    if options.peers:
        runs["imagededup"] = lambda contents: peer(options.peers, contents)
    rows, reference = [], None
    for name, run in runs.items():
        (hashes, cpu), (again, _) = run(originals), run(copies)
        reference = hashes if reference is None else reference
        rate = round(len(originals) / cpu)
        rows.append(
            {
                "hash": name,
                "images/CPU-s": rate,
                "to imagehash": shares(reference, hashes),
                "recoded": shares(hashes, again),
            }
        )
    if options.json:
        print(json.dumps(rows))
        return
    print("| hash | images/CPU-s | near imagehash's | near its own, re-encoded |\n|---|---|---|---|")
    for row in rows:
        near, own = (
            ", ".join(f"{k} {v}" for k, v in row[column].items()) for column in ("to imagehash", "recoded")
        )
        print(f"| {row['hash']} | {row['images/CPU-s']} | {near} | {own} |")


if __name__ == "__main__":
    main()
