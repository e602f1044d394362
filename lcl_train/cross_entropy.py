"""Cross-entropy of many tokens without all their logits in memory: a chunk at a time, its gradient at once.

The gradient of the sum needs nothing that comes later, so that it is made while a chunk's logits are there:
they are neither kept nor computed again, which would cost a third of the head's arithmetic more.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lcl_train.collate import IGNORED


def told_losses(hidden: Tensor, head: Tensor, labels: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """The loss of the targets in nats, fp32: their sum, with a graph, and each of them, without.

    Args:
        hidden: [L, width] normed stream.
        head: [vocab_size, width].
        labels: int64 [L]; `IGNORED` counts nothing.
        chunk: targets whose logits are in memory at once.

    Returns:
        A scalar, and [L], 0 at what is ignored.
    """
    if not torch.is_grad_enabled():  # apply looks at what could learn, not at whether it is to
        hidden, head = hidden.detach(), head.detach()
    losses: tuple[Tensor, Tensor] = _ToldLosses.apply(hidden, head, labels, chunk)
    return losses


class _ToldLosses(torch.autograd.Function):
    """The losses, and beside them what their sum makes of hidden states and head."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        kind = hidden.device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False):
            narrow, losses = head.to(half), hidden.new_zeros(len(labels), dtype=torch.float32)
            of_hidden, of_head = (
                torch.zeros_like(x) if wanted else None
                for x, wanted in zip((hidden, head), ctx.needs_input_grad[:2], strict=True)
            )
            for start in range(0, len(labels), chunk):
                place = slice(start, start + chunk)
                inputs = hidden[place].to(half)
                losses[place], of_logits = _losses_and_gradient(inputs, narrow, labels[place])
                if of_hidden is not None:
                    of_hidden[place] = of_logits @ narrow
                if of_head is not None:
                    _add_product(of_head, of_logits.T, inputs)
        ctx.save_for_backward(of_hidden, of_head)
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_head = (x if x is None else x * gradient for x in ctx.saved_tensors)
        return of_hidden, of_head, None, None


def _losses_and_gradient(hidden: Tensor, head: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of a chunk in fp32, and the gradient of their sum by the logits in their own precision."""
    logs = functional.log_softmax(functional.linear(hidden, head), -1, dtype=torch.float32)
    told, counts = labels.clamp(min=0)[:, None], (labels != IGNORED)[:, None]
    losses = -(logs.gather(1, told) * counts).squeeze(1)
    shares = logs.exp_()
    shares.scatter_add_(1, told, shares.new_full((), -1).expand_as(told)).mul_(counts)
    return losses, shares.to(head.dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left @ right` to a total that may be more precise."""
    if total.dtype == left.dtype:
        torch.addmm(total, left, right, out=total)
    else:
        total += left @ right
