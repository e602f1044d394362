"""The exponential moving average of the weights: a smoother network, at the price of one more copy of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lcl_train import parallel


class Average:
    """Averages of all parameters by name, each kept as its parameter is: on its device, sharded as it is.

    The share of the past grows from 0.1 to `decay` as (1 + n) / (10 + n) after n steps, so that the random
    start is soon forgotten (as in TensorFlow and timm). It depends on the step alone: the averages are all
    the state there is.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begin with the weights as they are."""
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        self.weights = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after `step` optimiser steps."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        weights = [parameter.detach() for parameter in self._parameters.values()]
        torch._foreach_lerp_(list(self.weights.values()), weights, share)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The time in which the model has the averages; one tensor more is in memory at once."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            weight = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(weight)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from these averages.

        Raises:
            KeyError: one is missing.
        """
        for name, average in self.weights.items():
            average.copy_(parallel.laid_out(weights[name], average))
