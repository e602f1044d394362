"""What a run would take, told before it: parameters, operations, fill, memory, and time on this device.

The packer is rehearsed on the shards themselves and a few real steps are taken on this device; of the run's
folder nothing is read or written.
"""

import tempfile
import time
from contextlib import closing
from dataclasses import asdict, replace
from functools import reduce
from itertools import islice
from math import ceil
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from lcl_data.shards import Shards
from lcl_train.collate import Batch
from lcl_train.flops import Work, useful
from lcl_train.footprint import Footprint, footprint, kept_bytes
from lcl_train.loader import Loader
from lcl_train.memory import capacity, forget_peak, peak, resident
from lcl_train.pack import PackSettings, PackStats
from lcl_train.run import Run
from lcl_train.settings import Train
from schemas.errors import LclError

Section = dict[str, Any]
_REHEARSED = 2048  # rows
_MEASURED = 3  # steps
_WARM, _WARM_CUDA = 1, 3  # steps before them: compilation, first kernels
_STEP_S, _CPU_FLOPS = 4.0, 5e10  # a CPU gets batches of as few rows as take about so long at about this speed


class _Measured(NamedTuple):
    """What a few steps on smaller batches took.

    Attributes:
        rows: of these batches; a part of one where a whole one takes too long.
        work: useful work of all of them.
        batches: how many there were.
        load_s: for the loader to make one of them, with all its threads.
        step_s: for a step without the loader; None: it would not fit into memory, and was not tried.
        estimate: of the memory of a step.
        recomputed: bytes of activations that it would keep with `speed.checkpoint_blocks`.
        process: bytes held besides, on a CPU: libraries, shards, the heap.
        peak: bytes that were in use at most; None: not known here.
    """

    rows: float
    work: Work
    batches: int
    load_s: float
    step_s: float | None
    estimate: Footprint
    recomputed: int
    process: int
    peak: int | None


def plan(shards: Shards, settings: Train) -> dict[str, Section]:
    """Plan a run on this device.

    Args:
        shards: that it would read.
        settings: all that would decide it.

    Returns:
        Sections `parameters`, `rows`, `length`, `flops`, `memory` and `time`; bytes, seconds and operations
        where a name says nothing else, None for what is not known here.

    Raises:
        RecipeError: settings that do not fit one another or the shards.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        run = Run(shards, Path(nowhere), settings)
        stats, documents = run.loader.rehearse(_REHEARSED)
        try:
            measured = _measure(run, *_rows_to_measure(run, stats))
        except LclError as error:
            if type(error) is LclError:  # the guard's: its folder goes with this plan
                raise LclError("the first steps already give no number; lower optimizer.lr") from error
            raise
    times = settings.rows / measured.rows
    return {
        "run": {
            "preset": settings.preset,
            "device": str(run.device),
            "dtype": "bfloat16" if run.is_half else "float32",
        },
        "parameters": _parameters(run),
        "rows": _rows(stats, settings.rows),
        "length": _length(run, stats.rows / documents),
        "flops": _flops(run, measured, times),
        "memory": _memory(run, measured, times / settings.accumulate),
        "time": _time(run, measured, times),
    }


def _rows_to_measure(run: Run, stats: PackStats) -> tuple[int, PackSettings]:
    """All of a micro-batch on CUDA; on a CPU what it gets through in a few seconds, or one short row."""
    most, pack = ceil(run.settings.rows / run.settings.accumulate), run.settings.pack
    if run.device.type == "cuda":
        return most, pack
    work = Work(images=stats.images, tokens=stats.tokens, labels=stats.tokens)
    seconds = run.meter.costs.training(work) / stats.rows / _CPU_FLOPS
    if seconds <= _STEP_S:
        return min(most, int(_STEP_S / seconds)), pack
    images = ceil(pack.row_images * pack.longest / pack.row_tokens)
    return 1, pack.model_copy(update={"row_tokens": pack.longest, "row_images": images})


def _measure(run: Run, rows: int, pack: PackSettings) -> _Measured:
    fitting = replace(run.loader.fitting, rows=rows, pack=pack, accumulate=1)
    loader = Loader(run.loader.shards, fitting, run.settings.workers)
    warm = _WARM_CUDA if run.device.type == "cuda" else _WARM
    with closing(iter(loader)) as made:
        since = time.perf_counter()
        batches = list(islice(made, warm + _MEASURED))
        load_s = (time.perf_counter() - since) / len(batches)
    estimate = footprint(run.task, run.optimizer, batches[0], run.settings, run.is_half)
    recomputed = kept_bytes(run.task, batches[0], run.settings, run.is_half, recompute=True)
    there = estimate.weights + estimate.averages + estimate.batches
    process = max(0, resident() - there) if run.device.type == "cpu" else 0
    fits = process + estimate.total < capacity(run.device)
    forget_peak(run.device)
    step_s = _step_s(run, batches, warm) if fits else None
    return _Measured(
        rows=rows * pack.row_tokens / run.settings.pack.row_tokens,
        work=reduce(add, map(useful, batches)),
        batches=len(batches),
        load_s=load_s,
        step_s=step_s,
        estimate=estimate,
        recomputed=recomputed,
        process=process,
        peak=peak(run.device) if fits else None,
    )


def _step_s(run: Run, batches: list[Batch], warm: int) -> float:
    """Seconds of a step; the first `warm` are not counted."""
    for number, batch in enumerate(batches):
        if number == warm:
            _wait_for(run.device)
            since = time.perf_counter()
        run.advance(batch)
    _wait_for(run.device)
    return (time.perf_counter() - since) / (len(batches) - warm)


def _parameters(run: Run) -> Section:
    model = run.model
    parts: dict[str, nn.Module] = {
        "encoder": model.vision,
        "pool": model.pool,
        "language_blocks": model.language.blocks,
        "embeddings": nn.ModuleList([model.language.tokens, model.language.positions]),
        "token_head": model.head,
        "objective": model.heads,
    }
    counted = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    everything = list(model.parameters())
    return {
        **counted,
        "all": sum(p.numel() for p in everything),
        "trained": sum(p.numel() for p in everything if p.requires_grad),
    }


def _rows(stats: PackStats, rows: int) -> Section:
    """Of a batch as the packer fills it, from the first rows of an epoch."""
    return {
        "rows": rows,
        "rehearsed": stats.rows,
        "fill": stats.fill,
        "image_fill": stats.image_fill,
        "tokens_per_step": stats.tokens / stats.rows * rows,
        "images_per_step": stats.images / stats.rows * rows,
        "parts_per_step": stats.pieces / stats.rows * rows,
    }


def _length(run: Run, rows_per_document: float) -> Section:
    epoch = run.loader.documents * rows_per_document
    return {
        "documents": run.loader.documents,
        "rows_per_epoch": round(epoch),
        "steps": run.steps,
        "epochs": run.steps * run.settings.rows / epoch,
    }


def _flops(run: Run, measured: _Measured, times: float) -> Section:
    costs, rows = run.meter.costs, measured.batches * measured.rows
    step = costs.training(measured.work) / measured.batches * times
    forward = costs.forward(Work(images=1))
    return {
        "image_forward": forward["vision"],
        "image_training": costs.training(Work(images=1)),
        "row_forward": sum(costs.forward(measured.work).values()) / rows,
        "row_training": costs.training(measured.work) / rows,
        "step": step,
        "run": step * run.steps,
    }


def _memory(run: Run, measured: _Measured, times: float) -> Section:
    """The estimate for a micro-batch; and for what was measured, how it compares with what was in use."""
    estimate = measured.estimate.of_rows(times)
    of_measured = measured.process + measured.estimate.total
    kept = estimate.weights + estimate.optimizer + estimate.averages
    return {
        "process": measured.process,
        **asdict(estimate),
        "activations_recomputed": round(measured.recomputed * times),
        "estimate": measured.process + estimate.total,
        "device_has": capacity(run.device),
        "measured_rows": measured.rows,
        "measured_estimate": of_measured,
        "measured_peak": measured.peak,
        "estimate_to_peak": None if measured.peak is None else of_measured / measured.peak,
        "checkpoint": kept,
    }


def _time(run: Run, measured: _Measured, times: float) -> Section:
    """Loader and step share the cores of a CPU; beside a GPU the slower one decides."""
    told: Section = {"measured_rows": measured.rows, "load_s": measured.load_s * times}
    if measured.step_s is None:
        unknown = ("compute_s", "step_s", "images_per_s", "tokens_per_s", "mfu", "hours")
        return told | dict.fromkeys(unknown)
    join = sum if run.device.type == "cpu" else max
    passes = 4 / 3 if run.settings.accumulate > 1 else 1.0  # forward twice, backward as dear as two of it
    compute_s = measured.step_s * times * passes
    step_s = join([measured.load_s * times, compute_s])
    work, batches = measured.work, measured.batches
    flops = run.meter.costs.training(work) / batches * times
    return {
        **told,
        "compute_s": compute_s,
        "step_s": step_s,
        "images_per_s": work.images / batches * times / step_s,
        "tokens_per_s": work.tokens / batches * times / step_s,
        "mfu": None if run.meter.peak is None else flops / step_s / run.meter.peak,
        "hours": step_s * run.steps / 3600,
    }


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
