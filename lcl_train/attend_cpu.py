"""Attention document by document on a CPU, as one operator: a compiler sees one call for any lengths.

Laying documents of like lengths side by side in fewer calls was tried: with 20 tokens a document and 3 narrow
heads a fifth faster, from 50 tokens on slower, so that every document has a call of its own.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


def attend_documents(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, causal: bool) -> Tensor:
    """Scaled dot-product attention, each document alone.

    Args:
        q: [T, heads, head_width]; k and v likewise.
        k: keys.
        v: values.
        bounds: int32 [documents + 1], where each document begins, and the end; empty ones may follow.
        causal: whether a token sees only what stands before it.

    Returns:
        [T, heads, head_width].
    """
    attended: Tensor = _forward(q, k, v, bounds, causal)[0]
    return attended


@torch.library.custom_op("lcl::attend_documents", mutates_args=(), device_types="cpu")
def _forward(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """What comes out, [T, heads, head_width], and the logarithms of the softmax's sums, [heads, T]."""
    attended, sums = _forward_fake(q, k, v, bounds, causal)
    for place in _places(bounds):
        inputs = (_heads_first(x[place]) for x in (q, k, v))
        one, one_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*inputs, 0.0, causal)
        attended[place], sums[:, place] = one[0].transpose(0, 1), one_sums[0]
    return attended, sums


@_forward.register_fake
def _forward_fake(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(q.dtype, torch.float32)
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=wide)


@torch.library.custom_op("lcl::attend_documents_backward", mutates_args=(), device_types="cpu")
def _backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, made: Sequence[Tensor], bounds: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values; `made` is what the forward pass gave."""
    attended, sums = made
    gradients: tuple[Tensor, Tensor, Tensor] = _backward_fake(gradient, q, k, v, made, bounds, causal)
    for place in _places(bounds):
        inputs = (_heads_first(x[place]) for x in (gradient, q, k, v, attended))
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *inputs, sums[None, :, place], 0.0, causal
        )
        for whole, one in zip(gradients, found, strict=True):
            whole[place] = one[0].transpose(0, 1)
    return gradients


@_backward.register_fake
def _backward_fake(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, made: Sequence[Tensor], bounds: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _heads_first(x: Tensor) -> Tensor:
    """[t, heads, head_width] to [1, heads, t, head_width]."""
    return x.transpose(0, 1).unsqueeze(0)


def _places(bounds: Tensor) -> Iterator[slice]:
    """Where the documents lie, without the empty ones."""
    return (slice(start, end) for start, end in pairwise(bounds.tolist()) if end > start)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.causal = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, bounds, *made = ctx.saved_tensors
    return *_backward(gradient, q, k, v, made, bounds, ctx.causal), None, None


_forward.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.lcl.attend_documents, get_raw=True)
def _forward_flops(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, *_: object, **__: object) -> int:
    """Two products of a whole square per document: torch counts its own attention so, causal or not."""
    return sum(4 * q.shape[1] * q.shape[2] * length**2 for length in bounds.diff().tolist())


@register_flop_formula(torch.ops.lcl.attend_documents_backward, get_raw=True)
def _backward_flops(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **__: object) -> int:
    """Five products where the forward pass has two."""
    return _forward_flops(q, k, v, rest[1]) * 5 // 2
