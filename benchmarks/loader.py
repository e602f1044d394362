"""Decoded images a second: our loader beside webdataset, Energon, LitData, MosaicML and the paper's.

    python benchmarks/loader.py SHARDS WORK --peers PYTHON [--images 6000] [--workers 0 2] [--crop same]
    python benchmarks/loader.py SHARDS WORK --scale 1 10 400

SHARDS was written by `lcl shard` in both containers; PYTHON has the peers. All see the same documents and
make of every picture a random crop of 224 x 224 in uint8; a batch is 8 documents (ours: 8 packed rows of
2,048, with every index that a step needs). Webdataset and Energon read our tars, LitData and MosaicML files
of their own made from these. `reference` is the loader of the paper's code, written from its description:
all annotations in memory, pictures as loose files, at most 6 a document, a map-style dataset (without its
tokeniser, in its favour). `tars` is ours from the tars, `alone` our decoder and crop without a loader.
`--crop same` gives the peers our decoder and crop, so that only the loaders
differ; `--crop theirs` is Pillow and torchvision's RandomResizedCrop, as their users write it. Rates count
from the first batch on: images a CPU second of the whole process tree, because other programs share the
cores, and a second of wall time. The first batch is timed from a new loader on, after the imports. `--scale`
shows our first batch and memory on a corpus of so many copies of SHARDS (20 and more: links), of both kinds.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ |= {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "DISABLE_VERSION_CHECK": "1"}

import psutil
import torch
from loader_sides import OURS, SIDE, SIDES


def spent() -> float:
    """CPU seconds of this process and of those it started."""
    here = psutil.Process()
    times = [each.cpu_times() for each in [here, *here.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


def memory() -> float:
    """Resident MB of this process and of those it started."""
    here = psutil.Process()
    return sum(each.memory_info().rss for each in [here, *here.children(recursive=True)]) / 1e6


def measure(side: str, shards: Path, work: Path, workers: int, images: int, crop: str) -> dict[str, float]:
    """One side in this process."""
    next(SIDES[side](shards, work / side, 0, crop))  # imports, and makes its files if they are not there
    began, cpu, seen, most = time.perf_counter(), spent(), 0, 0.0
    batches = SIDES[side](shards, work / side, workers, crop)
    next(batches)
    first, first_cpu = time.perf_counter() - began, spent() - cpu
    cpu, since = spent(), time.perf_counter()
    while seen < images:
        for number, (_, pixels) in enumerate(batches):
            assert pixels.shape[1:] == (3, SIDE, SIDE) and pixels.dtype == torch.uint8
            seen += len(pixels)
            most = max(most, memory()) if number % 100 == 0 else most  # it takes a while to ask
            if seen >= images:
                break
        else:
            batches = SIDES[side](shards, work / side, workers, crop)
    wall = time.perf_counter() - since
    rates = {"images/CPU-s": round(seen / (spent() - cpu)), "images/s": round(seen / wall)}
    start = {"first batch s": round(first, 2), "its CPU-s": round(first_cpu, 2)}
    return {**rates, **start, "MB": round(most)}


def in_a_process(python: str, *arguments: object) -> dict[str, float]:
    command = [python, "-W", "ignore", __file__, *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def copies(shards: Path, folder: Path, count: int) -> Path:
    """A corpus of so many copies of the shards, with the manifest that goes with them."""
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    manifest, copy = (
        json.loads((shards / "manifest.json").read_bytes()),
        shutil.copy if count < 20 else os.link,
    )
    known, entries = {shard["name"]: shard for shard in manifest["shards"]}, []
    for suffix in (".arrow", ".tar"):
        for number, path in enumerate(sorted(shards.glob(f"*{suffix}")) * count):
            copy(path, folder / f"{number:06d}{suffix}")
            entries.append({**known[path.name], "name": f"{number:06d}{suffix}"})
    (folder / "manifest.json").write_text(json.dumps({**manifest, "shards": entries}))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="our loader beside others")
    parser.add_argument("shards", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--crop", choices=["same", "theirs"], default="same")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--sides", nargs="+", default=list(SIDES))
    parser.add_argument("--scale", type=int, nargs="+", default=[])
    parser.add_argument("--json", action="store_true", help="one side in this process, as JSON")
    options = parser.parse_args()
    shards, work = options.shards.resolve(), options.work.resolve()
    if options.json:
        (side,), (workers,) = options.sides, options.workers
        print(json.dumps(measure(side, shards, work, workers, options.images, options.crop)))
        return
    print(f"{options.images} images, crop {options.crop}; load {os.getloadavg()[0]:.1f}\n")
    print("| side | workers | images/CPU-s | images/s | first batch s | its CPU-s | MB |")
    print("|---|---|---|---|---|---|---|")
    given = ["--images", options.images, "--crop", options.crop]
    for count in options.scale:
        corpus = copies(shards, work / f"copies-{count}", count)
        for side in ("ours", "tars"):
            row = in_a_process(sys.executable, corpus, work, *given, "--sides", side, "--workers", 2)
            print(f"| {side}, {count} copies | 2 | " + " | ".join(map(str, row.values())) + " |", flush=True)
    for workers in options.workers if not options.scale else []:
        for side in options.sides:
            python = sys.executable if side in OURS else options.peers
            here = [python, shards, work, *given, "--sides", side, "--workers", workers]
            runs = sorted(
                (in_a_process(*here) for _ in range(options.runs)), key=lambda run: run["images/CPU-s"]
            )
            row = runs[len(runs) // 2]
            print(f"| {side} | {workers} | " + " | ".join(map(str, row.values())) + " |", flush=True)


if __name__ == "__main__":
    main()
