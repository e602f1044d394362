"""AdamW with the paper's values, Muon for the matrices, and the learning rate as a pure function of the step.

Being pure, the rate needs no state in a checkpoint, and a run can be continued longer or cooled down at will.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from schemas.recipe import Settings

_Share = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSettings(Settings):
    """Values of the paper's released MMC4 script, but for schedule and clipping (it: cosine, none).

    Muon turns the momentum of a matrix into the nearest orthogonal one (Jordan 2024), scaled by
    0.2 sqrt(longest side) to the size of AdamW's updates, so that rate and decay tuned for AdamW serve it too
    (Liu et al., arXiv 2502.16982, section 2.2).
    """

    name: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: for the matrices of the blocks, with AdamW for all other parameters"
    )
    lr: float = Field(3e-4, gt=0, description="peak learning rate")
    betas: tuple[_Share, _Share] = Field((0.9, 0.98), description="AdamW's averages")
    eps: float = Field(1e-6, gt=0, description="AdamW's floor")
    momentum: float = Field(0.95, ge=0, lt=1, description="of Muon (Jordan's; Nesterov's form)")
    weight_decay: float = Field(0.2, ge=0, description="on matrices only: no norms, biases, temperature")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; None: no limit")
    schedule: Literal["wsd", "cosine"] = Field(
        "wsd",
        description="wsd: level, then linear to 0, so that a longer run needs no new schedule; cosine to 0",
    )
    warmup_steps: int = Field(2000, ge=0, description="linear from 0, but never more than a tenth of the run")
    decay_share: float = Field(0.2, ge=0, le=1, description="of the steps, at the end of a wsd schedule")

    @model_validator(mode="after")
    def _nothing_is_set_in_vain(self) -> Self:
        idle = {"momentum": ("name", "adamw"), "decay_share": ("schedule", "cosine")}
        for setting, (other, value) in idle.items():
            is_set = getattr(self, setting) != type(self).model_fields[setting].default
            if is_set and getattr(self, other) == value:
                raise ValueError(
                    f"optimizer.{setting}: nothing comes of it with {other}={value}; leave it out"
                )
        return self


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


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimiser of all parameters that learn; what has fewer than two dimensions is not decayed."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if settings.name == "adamw":
        return _adamw(list(named.values()), settings)
    matrices = [p for name, p in named.items() if _is_block_matrix(name, p)]
    others = [p for name, p in named.items() if not _is_block_matrix(name, p)]
    return Muon(matrices, others, settings)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use this rate in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class Muon(torch.optim.Optimizer):
    """torch's Muon and AdamW as one optimiser: one state, one list of groups, the first of them Muon's.

    Momentum is sharded with the parameters; a sharded matrix is gathered for each of the five iterations.
    """

    def __init__(
        self, matrices: list[nn.Parameter], others: list[nn.Parameter], settings: OptimizerSettings
    ) -> None:
        """Take two-dimensional `matrices` for Muon and the `others` for AdamW."""
        self._muon = torch.optim.Muon(
            matrices,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw = _adamw(others, settings)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; a closure is of no use here."""
        if closure is not None:
            raise ValueError("no closure: the gradients are those of the backward pass before")
        parts: dict[torch.optim.Optimizer, list[dict[str, Any]]] = {
            self._muon: self.param_groups[:1],
            self._adamw: self.param_groups[1:],
        }
        for part, groups in parts.items():
            part.state, part.param_groups = self.state, groups
            part.step()


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    return ".blocks." in name and parameter.ndim == 2


def _adamw(parameters: list[nn.Parameter], settings: OptimizerSettings) -> torch.optim.AdamW:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
