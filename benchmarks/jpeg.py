"""JPEG bytes to square uint8 pixels: which decoder, which resampling, how fast, how near to Pillow's bicubic.

    python benchmarks/jpeg.py FOLDER [--images 400] [--short 256] [--side 224] [--seed 0] [--json]

FOLDER holds pictures; a seeded choice of them is brought to a short side of `--short` (0: as they are) and
encoded once (quality 90). Every way makes the whole picture a square of `--side`. Rates are images a CPU
second: of one thread, of two threads, and of two processes; walls only say something on quiet cores, and are
given beside them with the load. PSNR is to Pillow's full decode and bicubic, over all pixels and of the worst
picture. `grating` is the contrast left of stripes of 6 pixels when 1024 pixels shrink to `--side`, which no
pixel of the result can show (0: antialiased). A decoder that is not installed is left out. nvJPEG needs a GPU
and is not here.
"""

import argparse
import io
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from PIL import Image

Pixels = np.ndarray
REFERENCE = "pillow, pillow"
GAP = 2  # a reduced decode leaves at least so many times the side, for the bicubic to do the rest


def pillow(encoded: bytes, side: int) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def pillow_draft(encoded: bytes, side: int) -> Pixels:
    picture = Image.open(io.BytesIO(encoded))
    picture.draft("RGB", (GAP * side, GAP * side))
    return np.asarray(picture.convert("RGB"))


def simplejpeg(encoded: bytes, side: int) -> Pixels:
    from simplejpeg import decode_jpeg

    return decode_jpeg(encoded, "RGB")


def simplejpeg_reduced(encoded: bytes, side: int) -> Pixels:
    from simplejpeg import decode_jpeg

    return decode_jpeg(encoded, "RGB", min_height=GAP * side, min_width=GAP * side)


def simplejpeg_fast(encoded: bytes, side: int) -> Pixels:
    from simplejpeg import decode_jpeg

    return decode_jpeg(encoded, "RGB", fastdct=True, fastupsample=True)


def torchvision(encoded: bytes, side: int) -> Pixels:
    from torchvision.io import ImageReadMode, decode_jpeg

    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    return decode_jpeg(data, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()


def by_pillow(pixels: Pixels, side: int) -> Pixels:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


def by_torch(pixels: Pixels, side: int) -> Pixels:
    picture = torch.from_numpy(np.require(pixels, requirements="W"))[None].permute(0, 3, 1, 2)
    shrunk = torch.nn.functional.interpolate(picture, size=(side, side), mode="bicubic", antialias=True)
    return shrunk[0].permute(1, 2, 0).numpy()


DECODERS = (pillow, pillow_draft, simplejpeg, simplejpeg_reduced, simplejpeg_fast, torchvision)
RESIZERS = (by_pillow, by_torch)


def ways() -> dict[str, tuple[Callable, Callable]]:
    there = [d for d in DECODERS if d is pillow or d is pillow_draft or find_spec(d.__name__.split("_")[0])]
    names = {d: d.__name__.replace("_", " ") for d in there}
    return {f"{names[d]}, {r.__name__[3:]}": (d, r) for r in RESIZERS for d in there}


def squares(way: str, contents: Sequence[bytes], side: int) -> list[Pixels]:
    decode, resize = ways()[way]
    return [resize(decode(content, side), side) for content in contents]


def work(way: str, contents: Sequence[bytes], side: int) -> float:
    """CPU seconds of this process."""
    torch.set_num_threads(1)
    began = time.process_time()
    squares(way, contents, side)
    return time.process_time() - began


def encoded(picture: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def pictures(folder: Path, count: int, short: int, seed: int) -> list[bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    contents = []
    for path in random.Random(seed).sample(paths, min(count, len(paths))):
        picture = Image.open(path).convert("RGB")
        scale = short / min(picture.size) if short else 1.0
        size = round(picture.width * scale), round(picture.height * scale)
        contents.append(encoded(picture.resize(size, Image.Resampling.BICUBIC) if short else picture))
    return contents


def grating(way: str, side: int) -> float:
    """Contrast left, 0-1, of a sine whose period is 6 of 1024 pixels."""
    wave = 127.5 + 100 * np.sin(np.arange(1024) * 2 * np.pi / 6)
    stripes = np.broadcast_to(wave.astype(np.uint8)[None, :, None], (1024, 1024, 3))
    (left,) = squares(way, [encoded(Image.fromarray(np.ascontiguousarray(stripes)), 95)], side)
    inner = left[8:-8, 8:-8].astype(float)
    return float(inner.std() / (100 / 2**0.5))


def psnr(ours: list[Pixels], theirs: list[Pixels]) -> tuple[float, float]:
    """Decibels over all pixels, and of the worst picture."""
    errors = [np.square(a.astype(int) - b).mean() for a, b in zip(ours, theirs, strict=True)]
    return tuple(
        round(float(10 * np.log10(255**2 / max(e, 1e-9))), 1) for e in (np.mean(errors), max(errors))
    )


def at_once(pool: Executor, way: str, contents: Sequence[bytes], side: int) -> tuple[float, float]:
    """Images a CPU second and a second of two workers."""
    shares = [contents[::2], contents[1::2]]
    list(pool.map(work, [way] * 2, [share[:2] for share in shares], [side] * 2))
    is_threads = isinstance(pool, ThreadPoolExecutor)
    cpu, began = time.process_time(), time.perf_counter()
    spent = list(pool.map(work, [way] * 2, shares, [side] * 2))
    wall = time.perf_counter() - began
    cpu = time.process_time() - cpu if is_threads else sum(spent)
    return round(len(contents) / cpu), round(len(contents) / wall)


def main() -> None:
    parser = argparse.ArgumentParser(description="ways from JPEG bytes to square pixels")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--short", type=int, default=256)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    contents, side = pictures(options.folder, options.images, options.short, options.seed), options.side
    expected, rows = squares(REFERENCE, contents, side), []
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, get_context("spawn")) as processes:
        for way in ways():
            near, worst = psnr(squares(way, contents, side), expected)
            rows.append(
                {
                    "way": way,
                    "images/CPU-s": round(len(contents) / work(way, contents, side)),
                    "2 threads": at_once(threads, way, contents, side),
                    "2 processes": at_once(processes, way, contents, side),
                    "psnr": near,
                    "worst": worst,
                    "grating": round(grating(way, side), 3),
                }
            )
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{len(contents)} pictures, short side {options.short}, to {side}; load {os.getloadavg()[0]:.1f}\n")
    print("| decode, resample | images/CPU-s | 2 threads: /CPU-s, /s | 2 processes | PSNR, worst | grating |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        threads, processes = ("{:,}, {:,}".format(*row[name]) for name in ("2 threads", "2 processes"))
        quality = f"{row['psnr']}, {row['worst']} | {row['grating']}"
        print(f"| {row['way']} | {row['images/CPU-s']:,} | {threads} | {processes} | {quality} |")


if __name__ == "__main__":
    main()
