"""Model and objective in one module: what DDP, FSDP2 and the compiler wrap, from a batch to its loss.

Every mean is over the whole step: sums stay on their rank, counts are added up over all ranks. The total is
scaled by the number of ranks, because DDP and FSDP2 average gradients: what comes out is exactly the gradient
that one process would have with all rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lcl_train import parallel
from lcl_train.collate import Batch
from lcl_train.contrast import begin, bias_of, contrast
from lcl_train.diagnostics import infonce_bound
from lcl_train.model import LCLModel, Outputs
from lcl_train.objectives import Contrastive, Mean, Objective, Terms
from schemas.errors import RecipeError

# Parameters that only a contrast, or only the telling of tokens, reaches.
_OF_CONTRAST = ("context_", "logit_scale", "pool.query", "pool.norm_q", "pool.q.", "pool.norm_k", "pool.k.")
_OF_GENERATION = ("head_norm", "head.")


class Loss(NamedTuple):
    """What a step needs of a batch.

    Attributes:
        total: fp32 scalar with a graph, times the number of ranks.
        parts: detached fp32 scalars; the sum over ranks is the value of the step: unweighted terms and rates.
        counts: terms of each mean over all ranks.
        each: detached fp32, what this rank sums for each label of its batches (`generation`) and for each
            pair (`contrastive`), in their order.
        latents: detached pooled vectors of this rank's images; a blank one where there are none.
    """

    total: Tensor
    parts: dict[str, Tensor]
    counts: dict[str, Tensor]
    each: dict[str, Tensor]
    latents: Tensor


Look = Callable[["Task", Outputs, Batch], object]


class Task(nn.Module):
    """A model and what it is trained for."""

    def __init__(self, model: LCLModel, objective: Objective) -> None:
        """Parameters that the objective does not reach no longer train.

        Raises:
            RecipeError: no term of the objective has a weight.
        """
        super().__init__()
        if not any(objective.weights.values()):
            raise RecipeError(f"objective: {objective.weights} trains nothing; give one of them a weight")
        self.model, self.objective = model, objective
        idle: tuple[str, ...] = ()
        if not objective.weights.get("contrastive"):
            idle += _OF_CONTRAST
        if not objective.weights.get("generation"):
            idle += _OF_GENERATION
        if isinstance(objective, Contrastive):
            begin(objective.contrast, model.logit_scale)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(idle))

    def forward(self, batch: Batch, look: Look | None = None) -> Any:
        """The `Loss` of one batch; a term of nothing is exactly 0.

        Args:
            batch: on the model's device.
            look: makes something else of the forward pass, where sharded weights are whole.
        """
        outputs = self.model(batch)
        if look is not None:
            return look(self, outputs, batch)
        latents = outputs.latents.detach()[: max(1, batch.n_images)]
        return self.join(self.objective.terms(self.model, outputs, batch), latents)

    @property
    def temper(self) -> tuple[Tensor, Tensor]:
        """The log of the contrast's scale, and its bias; 0 where it has none to learn."""
        scale, bias = self.model.logit_scale, bias_of(self.model.heads)
        return scale, torch.zeros_like(scale, requires_grad=False) if bias is None else bias

    def join(self, terms: Terms, latents: Tensor, temper: tuple[Tensor, Tensor] | None = None) -> Loss:
        """Weigh the terms, each over its count in the whole step; `temper` stands in for the task's own."""
        means, rates = dict(terms.means), dict[str, Tensor]()
        if terms.pairs is not None:
            found = contrast(terms.pairs, terms.contrast, *(self.temper if temper is None else temper))
            means["contrastive"] = Mean(found.loss, found.n, found.losses)
            rates = {
                "recall_at_1": found.images_found,
                "recall_at_1_of_contexts": found.contexts_found,
                "log_candidates": found.log_candidates,
            }
        counts = _over_ranks(means, latents.device)
        parts = {name: mean.sum / counts[name].clamp(min=1) for name, mean in means.items()}
        weighed = [self.objective.weights[name] * part for name, part in parts.items()]
        total = torch.stack(weighed).sum()
        told = {**parts, "total": total}
        told |= {name: rate / counts["contrastive"].clamp(min=1) for name, rate in rates.items()}
        if terms.pairs is not None and terms.contrast.kind == "softmax":
            told["bound"] = infonce_bound(parts["contrastive"], told["log_candidates"])
        detached = {name: value.detach().float() for name, value in told.items()}
        each = {name: mean.each for name, mean in means.items() if mean.each is not None}
        return Loss(total * parallel.world(), detached, counts, each, latents)


def _over_ranks(means: dict[str, Mean], device: torch.device) -> dict[str, Tensor]:
    """Counts added up over all ranks, in one exchange."""
    counts = [torch.as_tensor(mean.n, device=device) for mean in means.values()]
    return dict(zip(means, parallel.all_sum(torch.stack(counts)), strict=True))
