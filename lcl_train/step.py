"""One optimiser step: a batch in, better weights out, and what can be told of it still on its device."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lcl_train import accumulate, parallel
from lcl_train.collate import Batch
from lcl_train.diagnostics import feature_std
from lcl_train.optim import OptimizerSettings, set_learning_rate
from lcl_train.task import Task


class Taken(NamedTuple):
    """A step as it was taken; its tensors are still on their device.

    Attributes:
        batches: what it learnt from, as given.
        values: `loss/*`, `grad_norm`, `latent_std` and `lr` of the whole step, scalars.
        each: the loss of each target and of each pair of these batches: see `lcl_train.task.Loss`.
    """

    batches: Sequence[Batch]
    values: dict[str, Tensor]
    each: dict[str, Tensor]


class Step:
    """What a step needs besides a batch and a rate.

    Attributes:
        task: model and objective.
        wrapped: the same, as called: gradients are averaged over the ranks.
        optimizer: of its parameters.
        device: where both are.
        is_half: whether activations are bfloat16.
        watch: is shown the batches of every step with what came of it, before the update; it may raise.
    """

    def __init__(
        self,
        task: Task,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: OptimizerSettings,
        is_half: bool,
        watch: Callable[[Sequence[Batch], dict[str, Tensor]], None] | None = None,
    ) -> None:
        self.task, self.wrapped, self.optimizer = task, wrapped, optimizer
        self.settings, self.is_half = settings, is_half
        self.watch = watch
        self.device = next(task.parameters()).device

    def __call__(self, batches: Sequence[Batch], rate: float) -> Taken:
        """Learn from the micro-batches of a step.

        Args:
            batches: of any device.
            rate: learning rate of the step.

        Returns:
            What came of it; nobody waits for the device here.
        """
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad()
        there = [batch.to(self.device) for batch in batches]
        loss = accumulate.backward(self.task, self.wrapped, there, self.is_half)
        norm = _clip(self.task.parameters(), self.settings.clip)
        parts = parallel.all_sum(torch.stack(list(loss.parts.values())))
        values = {f"loss/{name}": value for name, value in zip(loss.parts, parts, strict=True)}
        values["grad_norm"] = norm
        if self.watch is not None:
            self.watch(batches, values)
        if self.task.objective.weights.get("contrastive"):
            values["latent_std"] = feature_std(loss.latents)
        self.optimizer.step()
        self.task.model.clamp_logit_scale()
        return Taken(batches, {**values, "lr": torch.tensor(rate, dtype=torch.float64)}, loss.each)


def _clip(parameters: Iterable[Tensor], largest: float | None) -> Tensor:
    """The norm of the gradient, before it is cut to `largest`."""
    return parallel.whole(nn.utils.clip_grad_norm_(parameters, math.inf if largest is None else largest))
