"""The settings of a training run: frozen, nested, defaulted by the preset, and written next to the result.

A preset brings the sizes of the network and the few training values that must follow them; whatever a recipe
or `--set` gives stands above it.
"""

import difflib
from typing import Any, Literal

from pydantic import Field, model_validator

from lcl_train.optim import OptimizerSettings
from lcl_train.pack import PackSettings
from lcl_train.parallel import Kind
from lcl_train.presets import PRESETS, ModelSettings
from lcl_train.speed import SpeedSettings
from lcl_train.track import TrackerName
from schemas.errors import RecipeError
from schemas.members import names
from schemas.overrides import laid_over, settle
from schemas.recipe import Member, Section, Settings

# Long rows hold several documents of the length that `lcl shard` cuts to, so that they are full.
_LONG_ROWS: Section = {"row_tokens": 8192, "part_tokens": 2048, "row_images": 96}
# What must follow the size of the network; all else has one default for all presets.
_FOLLOWS_PRESET: dict[str, Section] = {
    "nano": {
        "rows": 8,
        "pack": {"row_tokens": 512, "row_images": 16},
        "optimizer": {"lr": 1e-3, "warmup_steps": 50},
    },
    "tiny": {"rows": 4, "pack": _LONG_ROWS, "optimizer": {"lr": 1e-3, "warmup_steps": 500}},
    "small": {"rows": 8, "pack": _LONG_ROWS, "optimizer": {"lr": 5e-4}},
    "base": {"rows": 16, "pack": _LONG_ROWS},
    "base32": {"rows": 16, "pack": _LONG_ROWS},
    "large": {"rows": 16, "pack": _LONG_ROWS},
}


class Train(Settings):
    """Everything that decides a run, apart from the shards it reads."""

    preset: str = Field("nano", description="named sizes: nano, tiny, small, base, base32, large")
    model: Section = Field(default_factory=dict, description="sizes that differ from the preset's")
    objective: Member = Field("lcl", description="what is trained for: a file of lcl_train/objectives")
    steps: int | None = Field(None, gt=0, description="optimiser steps; None: as many as `epochs` takes")
    epochs: float = Field(1.0, gt=0, description="passes over the shards, where `steps` is None")
    rows: int = Field(8, gt=0, description="packed rows of a batch; the contrast is among all its images")
    accumulate: int = Field(
        1,
        gt=0,
        description="micro-batches of a step, where its rows exceed the memory; the contrast stays among all "
        "its images, at the price of a second forward pass",
    )
    min_images: int = Field(1, ge=0, description="documents with fewer pictures are left out; 1 as the paper")
    pack: PackSettings = Field(PackSettings(), description="budgets of a row")
    optimizer: OptimizerSettings = Field(OptimizerSettings(), description="AdamW or Muon, and the schedule")
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the past in an average of the weights, such as 0.999, which evals and "
        "validation then take; None: no average, one copy of the weights less",
    )
    speed: SpeedSettings = Field(SpeedSettings(), description="what makes a step faster or smaller")
    seed: int = Field(0, ge=0, description="of the weights, the order, the crops and the placement of images")
    weights: tuple[float, ...] | None = Field(
        None,
        description="of each folder of shards in the documents drawn, as [3, 1]; None: all are one corpus",
    )
    workers: int = Field(2, ge=0, description="threads that decode; 0: the step's own, and it waits for them")
    save_every_steps: int = Field(1000, gt=0, description="steps from one checkpoint to the next")
    save_every_minutes: float = Field(15.0, gt=0, description="minutes after which one is due anyway")
    keep_last: int = Field(2, gt=0, description="checkpoints to keep")
    holdout: float = Field(
        0.01, ge=0, le=0.1, description="share of the documents never learned from; 0: none (no validation)"
    )
    validate_every_steps: int = Field(
        1000, gt=0, description="steps from one look at what is held out to the next; one more at the end"
    )
    track: list[TrackerName] = Field(
        [], description="where the lines of metrics.jsonl go besides: tensorboard, wandb, trackio"
    )
    log_every: int = Field(10, gt=0, description="steps from one line of metrics.jsonl to the next")
    parallel: Kind = Field(
        "ddp", description="of several ranks: ddp keeps all on each; fsdp2 shards weights and optimiser state"
    )
    device: str = Field("auto", description="auto (CUDA if there is one), cpu, cuda, cuda:1, ...")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of activations; auto: bfloat16 on CUDA, float32 elsewhere"
    )

    @model_validator(mode="before")
    @classmethod
    def _follow_preset(cls, section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        return laid_over(_FOLLOWS_PRESET.get(str(section.get("preset", "nano")), {}), section)

    @classmethod
    def settled(cls, section: Section, changes: Section) -> "Train":
        """A recipe's section with changes over it; `objective.x` is a setting of whichever objective it has.

        Raises:
            RecipeError: naming every wrong setting.
        """
        objective, change = section.get("objective", "lcl"), changes.get("objective")
        named = {objective: {}} if isinstance(objective, str) else objective
        known = names("lcl_train.objectives")
        if isinstance(change, dict) and not any(name in known or ":" in name for name in change):
            change = {next(iter(named)): change}
        if isinstance(change, dict) and change.keys() == named.keys():
            change = laid_over(named, change)
        chosen = change if "objective" in changes else objective
        return settle(cls, {**laid_over(section, changes), "objective": chosen}, "train")

    def model_settings(self, vocab_size: int) -> ModelSettings:
        """The sizes of the model for the vocabulary of some shards.

        Raises:
            RecipeError: no such preset, `model` names a size that there is not or that the shards decide, or
                a row is too long for it.
        """
        if self.preset not in PRESETS:
            near = difflib.get_close_matches(self.preset, PRESETS, n=3) or list(PRESETS)
            raise RecipeError(f"preset {self.preset}: no such preset; did you mean {', '.join(near)}?")
        sizes = laid_over(PRESETS[self.preset].model_dump(), self.model)
        model = settle(ModelSettings, sizes, "model")
        if "vocab_size" in self.model.get("language", {}):
            raise RecipeError("model.language.vocab_size: the shards decide it; leave it out")
        if self.pack.longest > (context := model.language.context):
            raise RecipeError(f"pack.{self.pack.limit}: at most model.language.context, {context}")
        return model.with_vocabulary(vocab_size)
