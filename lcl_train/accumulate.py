"""A step in micro-batches whose contrast stays whole, for batches that do not fit into memory at once.

Two passes, as in GradCache (arXiv 2101.06983): the first keeps of each micro-batch only the features that are
contrasted and what its terms count; the contrast of all of them gives the gradient of each feature, which the
second pass carries on into the network. No logits and no activations outlive their micro-batch. The gradient
is that of one batch with all rows, at the price of a second forward pass.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lcl_train import parallel
from lcl_train.collate import Batch
from lcl_train.contrast import Pairs
from lcl_train.model import Outputs
from lcl_train.objectives import Mean, Terms
from lcl_train.task import Look, Loss, Task


class _First(NamedTuple):
    """What the first pass keeps of a micro-batch: its terms, and the latents of its pictures."""

    terms: Terms
    latents: Tensor


class _Wanted(NamedTuple):
    """What the second pass must know of the whole step.

    Attributes:
        counts: terms of each mean.
        gradients: by latents and contexts of this micro-batch, then by temperature and bias of the contrast,
            of which each micro-batch carries an equal share; empty where nothing is contrasted.
    """

    counts: dict[str, Tensor]
    gradients: tuple[Tensor, ...]


def backward(task: Task, wrapped: nn.Module, batches: Sequence[Batch], is_half: bool) -> Loss:
    """Leave the gradient of a step in the parameters.

    Args:
        task: model and objective.
        wrapped: the same, as called.
        batches: micro-batches of this rank, as many as every other has; one takes one pass.
        is_half: whether activations are bfloat16.

    Returns:
        The loss of the step; there is no way back from its total any more.
    """

    def run(batch: Batch, look: Look | None = None) -> Any:
        # One context for each pass: autocast keeps halves of weights, and those of the first have no graph.
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=is_half):
            return wrapped(batch, look)

    if len(batches) == 1:
        whole: Loss = run(batches[0])
        torch.autograd.backward(whole.total)
        return whole
    with torch.no_grad():
        first = [run(batch, _keep) for batch in batches]
    loss, wanted = _contrasted(task, first)
    for number, batch in enumerate(batches, 1):
        with nullcontext() if number == len(batches) else _unsynced(wrapped):
            torch.autograd.backward(run(batch, partial(_carry, wanted[number - 1])))
    return loss


def _keep(task: Task, outputs: Outputs, batch: Batch) -> _First:
    latents = outputs.latents[: max(1, batch.n_images)]
    return _First(task.objective.terms(task.model, outputs, batch), latents)


def _contrasted(task: Task, first: list[_First]) -> tuple[Loss, list[_Wanted]]:
    """The loss of the whole step, and what each micro-batch must carry into the network."""
    terms, latents = [each.terms for each in first], torch.cat([each.latents for each in first])
    means = {name: _sum([each.means[name] for each in terms]) for name in terms[0].means}
    parts = [each.pairs for each in terms if each.pairs is not None]
    if not parts:
        loss = task.join(Terms(means), latents)
        return loss, [_Wanted(loss.counts, ())] * len(first)
    pairs = Pairs(*(torch.cat(values) for values in zip(*parts, strict=True)))
    scale, bias = (parallel.whole(value.detach()).requires_grad_() for value in task.temper)
    learnt = [pairs.latents.requires_grad_(), pairs.contexts.requires_grad_(), scale, bias]
    loss = task.join(Terms(means, pairs, terms[0].contrast), latents, (scale, bias))
    gradients = torch.autograd.grad(loss.total, learnt, materialize_grads=True)
    sizes, shares = [len(part.valid) for part in parts], [each / len(first) for each in gradients[2:]]
    features = zip(*(torch.split(each, sizes) for each in gradients[:2]), strict=True)
    return loss, [_Wanted(loss.counts, (*each, *shares)) for each in features]


def _sum(means: list[Mean]) -> Mean:
    each = [mean.each for mean in means if mean.each is not None]
    total = torch.stack([mean.sum for mean in means]).sum()
    return Mean(total, sum(mean.n for mean in means), torch.cat(each) if each else None)


def _carry(wanted: _Wanted, task: Task, outputs: Outputs, batch: Batch) -> Tensor:
    """A scalar whose gradient is this micro-batch's part of the step's."""
    terms, weights = task.objective.terms(task.model, outputs, batch), task.objective.weights
    means = [
        weights[name] * mean.sum / wanted.counts[name].clamp(min=1) for name, mean in terms.means.items()
    ]
    parts = [mean * parallel.world() for mean in means]
    if terms.pairs is not None:
        values = (*terms.pairs[:2], *task.temper)
        parts += [(v.float() * g.float()).sum() for v, g in zip(values, wanted.gradients, strict=True)]
    return torch.stack(parts).sum()


def _unsynced(wrapped: nn.Module) -> AbstractContextManager[None]:
    """DDP sums gradients over the ranks once, with the last; FSDP2 with each, to keep them sharded."""
    return wrapped.no_sync() if isinstance(wrapped, nn.parallel.DistributedDataParallel) else nullcontext()
