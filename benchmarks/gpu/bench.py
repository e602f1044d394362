"""How well an accelerator is used, end to end: JPEG bytes in shards to optimiser steps.

    python benchmarks/gpu/bench.py [SHARDS] [--set rows=64] [--steps 30] [--profile table.txt] [--json FILE]

Without SHARDS a corpus of MMC4's lengths is drawn (`drawn.py`). Three measurements of the same run: `end to
end`, steps on fresh batches; `step`, steps on one batch that waits on the device; `loader`, batches that
nobody uses. The slower of the last two is what stands in the way. MFU counts useful operations (no padding,
nothing recomputed, attention within documents, causal at half) against the device's half-precision peak; HFU
all that are run. Gate 35 %, goal 45 % on one H200 with the base preset, rows of 2048, bfloat16.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.gpu.drawn import draw
from lcl_data.shards import Shards
from lcl_train.collate import Batch
from lcl_train.run import Run
from lcl_train.settings import Train
from schemas.overrides import laid_over, nested, settle

PACK = {"row_tokens": 2048, "row_images": 24}
BASE = {"preset": "base", "rows": 64, "pack": PACK, "workers": 16, "min_images": 1, "steps": 1_000_000}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, and print a line for each measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", type=Path, nargs="?")
    parser.add_argument("--set", action="append", default=[], help="a setting of `lcl train`, as name=value")
    parser.add_argument("--warm", type=int, default=5, help="untimed steps")
    parser.add_argument("--steps", type=int, default=30, help="timed steps")
    parser.add_argument("--documents", type=int, default=10_000, help="of the drawn corpus")
    parser.add_argument("--profile", type=Path, help="where to write the table of one profiled step")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    settings = settle(Train, laid_over(BASE, nested(given.set)))
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(given.shards or draw(Path(folder) / "shards", given.documents))
        run = Run(shards, Path(folder) / "run", settings)
        found = measured(run, given.warm, given.steps)
        if given.profile:
            given.profile.write_text(profiled(run))
    for name in ("end to end", "step", "loader"):
        print(name, json.dumps(found[name]), file=sys.stderr)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


def measured(run: Run, warm: int, steps: int) -> dict[str, Any]:
    """The three measurements, and what they were taken of."""
    batches = iter(run.loader)
    for _ in range(warm):
        last = next(batches)
        run.advance(last)
    waiting = last.to(run.device)
    found = {
        "device": torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else str(run.device),
        "torch": torch.__version__,
        "settings": run.settings.model_dump(mode="json"),
        "end to end": timed(run, batches, steps, run.advance),
        "step": timed(run, repeat(waiting), steps, run.advance, last),
    }
    batches.close()
    fresh = iter(run.loader)
    next(fresh)
    found["loader"] = timed(run, fresh, steps, lambda batch: None)
    fresh.close()
    if run.device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated(run.device) / 2**30
    return found


def repeat(batch: Batch) -> Iterator[Batch]:
    while True:
        yield batch


def timed(
    run: Run,
    batches: Iterator[Batch],
    steps: int,
    use: Callable[[Batch], Any],
    counted: Batch | None = None,
) -> dict[str, Any]:
    """Rates of useful work; `counted` is the batch on the host, where those that are used are not."""
    images = tokens = positions = needed = done = 0
    waited = 0.0
    synchronise(run)
    began = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        use(batch)
        host = counted or batch
        useful, filled = run.meter.count(host)
        images, tokens, positions = (
            images + host.n_images,
            tokens + host.n_tokens,
            positions + len(host.tokens),
        )
        needed, done = needed + useful, done + filled
    synchronise(run)
    seconds = time.perf_counter() - began
    return {
        "steps": steps,
        "seconds": seconds,
        "images_per_s": images / seconds,
        "tokens_per_s": tokens / seconds,
        "fill": tokens / positions,
        "data_wait": waited / seconds,
        **run.meter.rates(needed, done, seconds),
    }


def synchronise(run: Run) -> None:
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)


def profiled(run: Run) -> str:
    """Where the time of a warm step goes."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    sort = "self_cpu_time_total"
    if run.device.type == "cuda":
        kinds, sort = [*kinds, torch.profiler.ProfilerActivity.CUDA], "self_device_time_total"
    batches = iter(run.loader)
    batch = next(batches)
    batches.close()
    with torch.profiler.profile(activities=kinds) as profile:
        run.advance(batch)
        synchronise(run)
    return str(profile.key_averages().table(sort_by=sort, row_limit=40, max_name_column_width=80)) + "\n"


if __name__ == "__main__":
    main()
