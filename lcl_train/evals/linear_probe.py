"""Linear probe: multinomial logistic regression on frozen features, its penalty chosen on held-out pictures.

An untuned probe loses 1-4 points (CLIP_benchmark's sweep), more than most encoders differ by.
"""

import math

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from lcl_train.evals import Eval, Scores
from lcl_train.features import Kind, Subject


class LinearProbe(Eval):
    """L-BFGS on standardised features; C is the inverse weight of the L2 penalty, as in scikit-learn."""

    c_low: float = Field(1e-3, gt=0, description="smallest C tried")
    c_high: float = Field(1e2, gt=0, description="largest C tried")
    c_count: int = Field(6, gt=0, description="values tried, evenly in the logarithm")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of the training pictures that chooses C")
    max_iterations: int = Field(100, gt=0, description="of L-BFGS, for each C")
    seed: int = Field(0, ge=0, description="of the choice of held-out pictures")
    features: Kind = Field(
        "pooled", description="patches: mean of the patch tokens; pooled: the pooled vector"
    )

    def __call__(self, subject: Subject) -> Scores:
        """1 for every validation picture that the regression fitted with the best C names rightly."""
        train, val = (subject.labelled(split, self.features) for split in ("train", "val"))
        mean, std = train.features.mean(0), train.features.std(0).clamp_min(1e-6)
        x, x_val = (train.features - mean) / std, (val.features - mean) / std
        classes = len(subject.folder.classes)
        c = self._best_c(x, train.labels, classes)
        weights = self._fit(x, train.labels, torch.zeros(classes, x.shape[1] + 1), c)
        return Scores(_hits(weights, x_val, val.labels), {"c": c})

    def _best_c(self, x: Tensor, labels: Tensor, classes: int) -> float:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        held_count = max(1, int(self.held_out * len(x)))
        held, fit = order[:held_count], order[held_count:]
        weights = torch.zeros(classes, x.shape[1] + 1)
        accuracies = {}
        for c in self._grid():  # from the strongest penalty on, each start where the last one ended
            weights = self._fit(x[fit], labels[fit], weights, c)
            accuracies[c] = _hits(weights, x[held], labels[held]).mean().item()
        return max(accuracies, key=lambda c: accuracies[c])

    def _grid(self) -> list[float]:
        low, high = math.log10(self.c_low), math.log10(self.c_high)
        return [float(c) for c in torch.logspace(low, high, self.c_count, dtype=torch.float64)]

    def _fit(self, x: Tensor, labels: Tensor, start: Tensor, c: float) -> Tensor:
        """Weights [classes, width + 1], the bias last and without a penalty."""
        weights = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weights], max_iter=self.max_iterations, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            penalty = weights[:, :-1].square().sum() / (2 * c * len(x))
            loss = cross_entropy(_logits(weights, x), labels) + penalty
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch leaves LBFGS unannotated
        return weights.detach()


def _logits(weights: Tensor, x: Tensor) -> Tensor:
    return x @ weights[:, :-1].T + weights[:, -1]


def _hits(weights: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    return (_logits(weights, x).argmax(-1) == labels).float()
