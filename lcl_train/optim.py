"""AdamW with the paper's values, and the learning rate as a pure function of the step.

Being pure, the rate needs no state in a checkpoint, and a run can be continued longer or cooled down at will.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from schemas.recipe import Settings


class OptimizerSettings(Settings):
    """Values of the paper's released MMC4 script, but for schedule and clipping (it: cosine, none)."""

    lr: float = Field(3e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's averages")
    eps: float = Field(1e-6, gt=0, description="AdamW's floor")
    weight_decay: float = Field(0.2, ge=0, description="on matrices only: no norms, biases, temperature")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; None: no limit")
    schedule: Literal["wsd", "cosine"] = Field(
        "wsd",
        description="wsd: level, then linear to 0, so that a longer run needs no new schedule; cosine to 0",
    )
    warmup_steps: int = Field(2000, ge=0, description="linear from 0, but never more than a tenth of the run")
    decay_share: float = Field(0.2, ge=0, le=1, description="of the steps, at the end of a wsd schedule")


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """The rate of a step.

    Args:
        step: 0-based.
        steps: of the whole run.
        settings: the schedule.
    """
    warmup = min(settings.warmup_steps, steps // 10)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "cosine":
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return settings.lr * (1 + math.cos(math.pi * progress)) / 2
    decay = settings.decay_share * steps
    return settings.lr * min(1.0, max(0.0, (steps - step) / decay if decay else 1.0))


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW in two groups: what has two dimensions or more is decayed (as in the paper's code)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use this rate in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
