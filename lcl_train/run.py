"""All that changes from step to step, and how: model, optimiser, loader; set up, resumed, saved."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lcl_data.shards import Shards
from lcl_train import checkpoint, parallel, step_folders
from lcl_train.by_source import means_by_source
from lcl_train.collate import Batch
from lcl_train.devices import find_device, peak_flops
from lcl_train.ema import Average
from lcl_train.flops import Meter, costs_of
from lcl_train.guard import Guard
from lcl_train.loader import Fitting, Loader
from lcl_train.memory import keep_freed_memory
from lcl_train.model import LCLModel
from lcl_train.objectives import Objective
from lcl_train.optim import build_optimizer, learning_rate
from lcl_train.settings import Train
from lcl_train.speed import hasten
from lcl_train.step import Step, Taken
from lcl_train.task import Task
from lcl_train.validation import Validation
from lcl_train.vocabulary import token_bytes
from schemas.errors import LclError, RecipeError
from schemas.members import build
from schemas.overrides import differences

CHECKPOINTS, SETTINGS = "checkpoints", "settings.json"
_JUDGED_BY = "val/total"
# Settings that decide how steps are taken and told and how many there are, but not what one learns.
_OF_THE_WAY = {
    "accumulate",
    "device",
    "epochs",
    "keep_last",
    "log_every",
    "parallel",
    "save_every_minutes",
    "save_every_steps",
    "speed",
    "steps",
    "track",
    "validate_every_steps",
    "workers",
}
_LIBRARIES = ("torch", "timm", "safetensors", "pillow", "numpy")


def find_objective(settings: Train) -> Objective:
    """The objective that settings name.

    Raises:
        RecipeError: there is none, or it has no such settings.
    """
    return build("lcl_train.objectives", settings.objective, Objective)


def fitting_of(settings: Train, model: LCLModel) -> Fitting:
    """What the loader of one process must know; the model may be on the meta device."""
    return Fitting(
        rows=settings.rows,
        pack=settings.pack,
        slots=model.slots,
        image_size=model.settings.vision.image_size,
        seed=settings.seed,
        min_images=settings.min_images,
        holdout=settings.holdout,
        layout=find_objective(settings).layout,
        weights=settings.weights,
        accumulate=settings.accumulate,
    )


class Run:
    """All that changes from step to step, and how.

    Attributes:
        step: optimiser steps done.
        steps: of the whole run.
        best: the checkpoint that did best in a validation; None before the first.
        changes: settings that the checkpoint, at which it goes on, has otherwise, in words.
    """

    def __init__(self, shards: Shards, out: Path, settings: Train) -> None:
        """Fresh weights, at step 0.

        Raises:
            RecipeError: settings that do not fit one another or the shards.
        """
        self.settings, self.out = settings, out
        self.device = parallel.own_device(find_device(settings.device))
        if self.device.type == "cpu":
            keep_freed_memory()
        self.sizes = settings.model_settings(shards.special_tokens.vocab_size)
        torch.manual_seed(settings.seed)
        objective = find_objective(settings)
        self.model = LCLModel(self.sizes, objective.heads(self.sizes)).to(self.device)
        hasten(self.model, settings.speed, is_half=self.is_half)
        self.task = Task(self.model, objective)
        wrapped = parallel.wrap(self.task, settings.parallel, self.model.blocks, self.device, self.is_half)
        self.optimizer = build_optimizer(self.task, settings.optimizer)
        self._learn = Step(self.task, wrapped, self.optimizer, settings.optimizer, self.is_half, self._watch)
        self.average = None if settings.ema is None else Average(self.model, settings.ema)
        self.guard, self.meter = self._guard(), self._meter()
        self.loader = Loader(shards, self._fitting(), settings.workers)
        self._look = self._validation(shards) if len(self.loader.held) else None
        self.step, self.steps = 0, settings.steps or self.loader.steps(settings.epochs)
        self.best: checkpoint.Best | None = None
        self.changes: list[str] = []

    def _guard(self) -> Guard:
        settings, sizes = (given.model_dump(mode="json") for given in (self.settings, self.sizes))
        facts = {"settings": settings, "model": sizes, "is_half": self.is_half}
        return Guard(self.out, self.model, self.optimizer, facts, parallel.rank())

    def _meter(self) -> Meter:
        peak = peak_flops(self.device) if self.is_half else None  # the table is of half precision
        again, twice = self.settings.speed.checkpoint_blocks, self.settings.accumulate > 1
        return Meter(costs_of(self.model), peak, again, twice, parallel.world())

    def _fitting(self) -> Fitting:
        fitting, pinned = fitting_of(self.settings, self.model), self.device.type == "cuda"
        return replace(fitting, rank=parallel.rank(), world=parallel.world(), pinned=pinned)

    def _validation(self, shards: Shards) -> Validation:
        nbytes = token_bytes(shards.folders[0], self.sizes.language.vocab_size)
        return Validation(self.loader, self.task, nbytes, self.is_half)

    def resume(self, where: str | Path) -> None:
        """Go on at a checkpoint, if there is one to go on at.

        Raises:
            RecipeError: `never`, or the checkpoint of another run, but the folder holds one; or all steps are
                done, and under other settings than these.
            CheckpointError: it is torn, or of another network or other shards.
        """
        folder = self.out / CHECKPOINTS
        has_run = bool(step_folders.checkpoints(folder))
        if where == "never" and has_run:
            raise RecipeError(f"{self.out}: holds a run; resume it with --resume auto, or take a new folder")
        if where != "never" and (where != "auto" or has_run):
            path = checkpoint.locate(folder if where == "auto" else Path(where))
            is_own = path.parent.resolve() == folder.resolve()
            if has_run and not is_own:
                raise RecipeError(f"{self.out}: holds a run, and {path} is of another; take a new folder")
            state = checkpoint.restore(path, self.model, self.optimizer, self.sizes)
            if self.average is not None:
                self.average.load(checkpoint.read_averages(path) or dict(self.model.named_parameters()))
            self.loader.load_state_dict(state.loader)
            self.step, self.best = state.step, state.best if is_own else None
            self._compare(state, path, is_own)
        parallel.barrier()  # nobody looks for a checkpoint any more
        if parallel.is_main():
            step_folders.sweep(folder)
            step_folders.cut(folder, self.step)
            self.out.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text(self.out / SETTINGS, self.settings.model_dump_json(indent=1) + "\n")

    def _compare(self, state: checkpoint.State, path: Path, is_own: bool) -> None:
        """Note what is set otherwise than in a checkpoint; refuse it where no step is left to learn that."""
        there, here = state.settings, self.settings.model_dump(mode="json")
        self.changes = differences(there, here)
        is_ended = is_own and self.step == self.steps and _decisive(there) == _decisive(here)
        if self.step >= self.steps and not is_ended:
            raise RecipeError(
                f"{path}: its {self.step} steps are all that are asked for ({self.steps}), so that nothing "
                f"would be learnt; raise steps or epochs to go on from it, or take a new folder"
                + "".join(f"; {change}" for change in self.changes)
            )

    def advance(self, *batches: Batch) -> Taken:
        """One optimiser step; what can be told of it stays on the device, so that nobody waits for it."""
        rate = learning_rate(self.step, self.steps, self.settings.optimizer)
        taken = self._learn(batches, rate)
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        return taken

    def _watch(self, batches: Sequence[Batch], values: dict[str, Tensor]) -> None:
        self.guard.watch(self.step + 1, batches, values)

    def measure(self, taken: Taken) -> dict[str, float]:
        """The values of a step on the host, and its losses by source; every rank calls it.

        Raises:
            LclError: the loss or gradient of a step was no number; nothing is saved then.
        """
        self.guard.settle()
        measured = {name: value.item() for name, value in taken.values.items()}
        parts = means_by_source(taken.batches, taken.each)
        return measured | {f"loss/{name}": mean for name, mean in parts.items()}

    def validate(self) -> dict[str, float]:
        """What the weights that evals take, the averages if any, are worth on documents held out, if any."""
        if self._look is None:
            return {}
        with nullcontext() if self.average is None else self.average.shown():
            return self._look()

    def judge(self, told: dict[str, float]) -> bool:
        """Whether a validation did better than all before; if so, the checkpoint of this step is kept."""
        before = math.inf if self.best is None else self.best.value
        value = told.get(_JUDGED_BY, math.inf)
        is_better = bool(parallel.total([parallel.is_main() and value < before])[0])  # rank 0 decides
        if is_better:
            self.best = checkpoint.Best(step=self.step, metric=_JUDGED_BY, value=value)
        return is_better

    def save(self) -> Path:
        """Write the checkpoint of this step.

        Raises:
            LclError: a loss, gradient or weight is no number; nothing is written then.
        """
        self.guard.settle()
        weights = (parallel.own_part(weight) for weight in self.model.state_dict().values())
        if parallel.total([sum(not bool(weight.isfinite().all()) for weight in weights)])[0]:
            raise LclError(
                f"step {self.step}: the update made weights that are no numbers; go on from an earlier "
                f"checkpoint in {self.out} with a lower optimizer.lr"
            )
        state = checkpoint.State(
            step=self.step,
            settings=self.settings.model_dump(mode="json"),
            model=self.sizes,
            specials=asdict(self.loader.specials),
            loader=self.loader.state_dict(),
            versions={name: version(name) for name in _LIBRARIES},
            best=self.best,
        )
        folder = self.out / CHECKPOINTS
        averages = None if self.average is None else self.average.weights
        return checkpoint.save(folder, state, self.model, self.optimizer, self.settings.keep_last, averages)

    def describe(self) -> str:
        """The run in a line."""
        dtype = "bfloat16" if self.is_half else "float32"
        pack, sizes = self.settings.pack, self.sizes.vision
        return (
            f"{self.settings.preset}: {self.parameters / 1e6:.1f} M parameters "
            f"({_size(self.model.vision) / 1e6:.1f} M in the encoder, {sizes.image_size} px, "
            f"{self.model.slots} tokens an image) on {self.device}, {dtype}; "
            f"{self.loader.documents:,} of {len(self.loader.shards):,} documents are drawn, "
            f"{len(self.loader.held):,} held out; "
            f"{self.settings.rows} rows of {pack.row_tokens} tokens; "
            f"steps {self.step} to {self.steps}"
        )

    @property
    def parameters(self) -> int:
        """Numbers in the model, those that do not train included."""
        return _size(self.model)

    @property
    def is_half(self) -> bool:
        """Whether activations are bfloat16."""
        dtype = self.settings.dtype
        return dtype == "bfloat16" or (dtype == "auto" and self.device.type == "cuda")


def _decisive(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that decide what a step learns."""
    return {name: value for name, value in settings.items() if name not in _OF_THE_WAY}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
