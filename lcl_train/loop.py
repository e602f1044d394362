"""The training loop: shards in, a vision encoder out; stopped at any moment it resumes, on a CPU bit-exactly.

A run is a folder: settings.json, metrics.jsonl and checkpoints/step-NNNNNNNN.
"""

import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from torch import Tensor, nn

from lcl_data.shards import Shards
from lcl_train import checkpoint
from lcl_train.collate import Batch
from lcl_train.loader import Fitting, Loader
from lcl_train.memory import keep_freed_memory
from lcl_train.model import LCLModel
from lcl_train.objectives import Objective
from lcl_train.optim import build_optimizer, learning_rate, set_learning_rate
from lcl_train.report import Report
from lcl_train.settings import Train
from schemas.errors import LclError, RecipeError
from schemas.members import build
from schemas.recipe import Settings

CHECKPOINTS, METRICS, SETTINGS = "checkpoints", "metrics.jsonl", "settings.json"
_LIBRARIES = ("torch", "timm", "safetensors", "pillow", "numpy")


def train(
    shards: str | Path | Iterable[str | Path],
    out: Path,
    settings: Train,
    resume: str | Path = "auto",
    console: Console | None = None,
) -> dict[str, Any]:
    """Pre-train a vision encoder; SIGTERM saves and returns.

    Args:
        shards: folder or folders of training shards.
        out: folder of the run.
        settings: all that decides it.
        resume: auto (the newest checkpoint of `out`, else begin), never, or the path of a checkpoint.
        console: where people look; None: stderr.

    Returns:
        `step`, `steps`, `is_finished`, `checkpoint` (below `out`), `parameters`, the last `losses`, and the
        `rates` of this process.

    Raises:
        RecipeError: settings that do not fit, or `never` where a run stands already.
        ShardError: shards that are unfinished, torn, or hold an unreadable picture.
        CheckpointError: a checkpoint that is torn, or of another network or other shards.
        LclError: the loss is no number any more.
    """
    run = Run(Shards(shards), out, settings)
    run.resume(resume)
    budget = settings.rows * settings.pack.row_images
    with Report(out / METRICS, run.step, run.steps, budget, console) as report, _sigterm() as stop:
        report.say(run.describe())
        _walk(run, report, stop)
        return {
            "step": run.step,
            "steps": run.steps,
            "is_finished": run.step >= run.steps,
            "checkpoint": checkpoint.locate(out / CHECKPOINTS).relative_to(out).as_posix(),
            "parameters": _size(run.model),
            "losses": run.losses,
            "rates": report.rates(),
        }


def check(settings: Train) -> None:
    """Tell what of a run is wrong whatever its shards hold; no weight is made.

    Raises:
        RecipeError: no such preset, size, objective or device, or settings that do not fit one another.
    """
    find_device(settings.device)
    find_objective(settings)
    with torch.device("meta"):
        LCLModel(settings.model_settings(1))


def find_device(name: str) -> torch.device:
    """The device that a setting names; `auto` is CUDA if there is one.

    Raises:
        RecipeError: it is not here, or nothing is called so.
    """
    has_cuda = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if has_cuda else "cpu") if name == "auto" else name)
    except RuntimeError as error:
        raise RecipeError(f"device {name}: no such device; give auto, cpu, cuda or cuda:1") from error
    count = torch.cuda.device_count() if has_cuda else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise RecipeError(f"device {name}: this machine has {count} CUDA devices; give auto or cpu")
    return device


def find_objective(settings: Train) -> Objective:
    """The objective that settings name.

    Raises:
        RecipeError: there is none, or it has no such settings.
    """
    return cast(Objective, build("lcl_train.objectives", settings.objective, Settings))


class Run:
    """All that changes from step to step, and how.

    Attributes:
        step: optimiser steps done.
        steps: of the whole run.
        losses: as logged last.
    """

    def __init__(self, shards: Shards, out: Path, settings: Train) -> None:
        """Fresh weights, at step 0.

        Raises:
            RecipeError: settings that do not fit one another or the shards.
        """
        self.settings, self.out = settings, out
        self.device = find_device(settings.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.sizes = settings.model_settings(shards.special_tokens.vocab_size)
        torch.manual_seed(settings.seed)
        self.model = LCLModel(self.sizes).to(self.device)
        self.objective = find_objective(settings)
        self.optimizer = build_optimizer(self.model, settings.optimizer)
        image_size = self.sizes.vision.image_size
        fitting = Fitting(
            settings.rows, settings.pack, self.model.slots, image_size, settings.seed, settings.min_images
        )
        self.loader = Loader(shards, fitting, settings.workers)
        self.step, self.steps = 0, settings.steps or self.loader.steps(settings.epochs)
        self.losses: dict[str, float] = {}

    def resume(self, where: str | Path) -> None:
        """Go on at a checkpoint, if there is one to go on at.

        Raises:
            RecipeError: `never`, but the folder holds a run.
            CheckpointError: it is torn, or of another network or other shards.
        """
        folder = self.out / CHECKPOINTS
        checkpoint.sweep(folder)
        has_run = bool(checkpoint.checkpoints(folder))
        if where == "never" and has_run:
            raise RecipeError(f"{self.out}: holds a run; resume it with --resume auto, or take a new folder")
        if where != "never" and (where != "auto" or has_run):
            path = checkpoint.locate(folder if where == "auto" else Path(where))
            state = checkpoint.restore(path, self.model, self.optimizer, self.sizes)
            self.loader.load_state_dict(state.loader)
            self.step = state.step
        self.out.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(self.out / SETTINGS, self.settings.model_dump_json(indent=1) + "\n")

    def advance(self, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step; what can be told of it stays on the device, so that nobody waits for it."""
        rate = learning_rate(self.step, self.steps, self.settings.optimizer)
        set_learning_rate(self.optimizer, rate)
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_half):
            loss = self.objective(self.model(batch), batch)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss.total)
        clip = self.settings.optimizer.clip
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), math.inf if clip is None else clip)
        self.optimizer.step()
        self.model.clamp_logit_scale()
        self.step += 1
        parts = {f"loss/{name}": value for name, value in loss.parts.items()}
        return {**parts, "grad_norm": norm, "lr": torch.tensor(rate, dtype=torch.float64)}

    def measure(self, values: dict[str, Tensor]) -> dict[str, float]:
        """The values of a step on the host.

        Raises:
            LclError: one of them is no number; nothing is saved then.
        """
        measured = {name: value.item() for name, value in values.items()}
        if wrong := [name for name, value in measured.items() if not math.isfinite(value)]:
            raise LclError(
                f"step {self.step}: {', '.join(wrong)} is no number; "
                f"go on from the last checkpoint in {self.out} with a lower optimizer.lr"
            )
        self.losses = {
            name.removeprefix("loss/"): v for name, v in measured.items() if name.startswith("loss/")
        }
        return measured

    def save(self) -> Path:
        """Write the checkpoint of this step."""
        state = checkpoint.State(
            step=self.step,
            settings=self.settings.model_dump(mode="json"),
            model=self.sizes,
            specials=asdict(self.loader.specials),
            loader=self.loader.state_dict(),
            versions={name: version(name) for name in _LIBRARIES},
        )
        folder = self.out / CHECKPOINTS
        return checkpoint.save(folder, state, self.model, self.optimizer, self.settings.keep_last)

    def describe(self) -> str:
        """The run in a line."""
        dtype = "bfloat16" if self._is_half else "float32"
        pack, sizes = self.settings.pack, self.sizes.vision
        return (
            f"{self.settings.preset}: {_size(self.model) / 1e6:.1f} M parameters "
            f"({_size(self.model.vision) / 1e6:.1f} M in the encoder, {sizes.image_size} px, "
            f"{self.model.slots} tokens an image) on {self.device}, {dtype}; "
            f"{len(self.loader.drawn):,} documents of {len(self.loader.shards):,} have enough images; "
            f"{self.settings.rows} rows of {pack.row_tokens} tokens; "
            f"steps {self.step} to {self.steps}"
        )

    @property
    def _is_half(self) -> bool:
        dtype = self.settings.dtype
        return dtype == "bfloat16" or (dtype == "auto" and self.device.type == "cuda")


def _walk(run: Run, report: Report, stop: threading.Event) -> None:
    """Step to the end, or until asked to stop; log and save on the way, and at the end."""
    settings, saved_at, saved_step = run.settings, time.monotonic(), run.step
    with closing(iter(run.loader)) as batches:
        while run.step < run.steps and not stop.is_set():
            asked_at = time.perf_counter()
            batch = next(batches)
            report.count(batch, time.perf_counter() - asked_at)
            values = run.advance(batch)
            if run.step % settings.log_every == 0 or run.step == run.steps:
                report.log(run.step, run.measure(values))
            minutes = (time.monotonic() - saved_at) / 60
            if run.step % settings.save_every_steps == 0 or minutes > settings.save_every_minutes:
                run.measure(values)  # a network of NaN is not worth a checkpoint
                run.save()
                saved_at, saved_step = time.monotonic(), run.step
    if run.step > saved_step or run.step == 0:
        run.save()
    if stop.is_set():
        report.say(f"SIGTERM: saved at step {run.step}; the same command goes on from there")


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, where signals can be caught: in the main thread."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
