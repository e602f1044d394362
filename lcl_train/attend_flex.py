"""FlexAttention over packed documents; the tiles it works on are told from the documents' bounds alone."""

from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

_TILE = 128  # positions; FlexAttention's own default


def attend_blocks(q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask) -> Tensor:
    """Attention over the whole batch as one sequence: fused on CUDA, elsewhere a plain formula.

    Args:
        q: [T, heads, head_width]; k and v likewise.
        k: keys.
        v: values.
        blocks: `block_mask` of the batch.

    Returns:
        [T, heads, head_width].
    """
    is_alone = q.is_cuda and not torch.compiler.is_compiling()  # a compiled caller fuses it itself
    run = _fused() if is_alone else cast(Callable[..., Tensor], flex_attention)
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    return run(q, k, v, block_mask=blocks).squeeze(0).transpose(0, 1)


@lru_cache(maxsize=1)
def _fused() -> Callable[..., Tensor]:
    return cast(Callable[..., Tensor], torch.compile(flex_attention))


def block_mask(bounds: Tensor, tokens: int, causal: bool) -> BlockMask:
    """Which tiles hold pairs of positions that see each other, and which hold nothing else.

    `create_block_mask` asks the mask for every pair of positions, which takes longer than the attention. As
    documents lie in order, the first and the last document of a tile's positions tell the same.

    Args:
        bounds: int32 [documents + 1], where each document begins, and the end; empty ones may follow.
        tokens: positions of the batch.
        causal: whether a position sees only what stands before it.
    """
    places = torch.arange(tokens, device=bounds.device, dtype=bounds.dtype)
    document = torch.searchsorted(bounds[1:].contiguous(), places, right=True)
    first, last = document[::_TILE], document[(places[::_TILE] + _TILE - 1).clamp(max=tokens - 1)]
    tile = torch.arange(len(first), device=bounds.device)
    seen = (first[:, None] <= last) & (first <= last[:, None])
    of_one = (first == last) & ((tile + 1) * _TILE <= tokens)
    full = seen & of_one[:, None] & of_one
    if causal:
        seen, full = seen & (tile[:, None] >= tile), full & (tile[:, None] > tile)
    return BlockMask.from_kv_blocks(
        *_listed(seen & ~full),
        *_listed(full),
        BLOCK_SIZE=_TILE,
        mask_mod=_mask(document, causal),
        seq_lengths=(tokens, tokens),
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Per row how many tiles are marked, [1, 1, n], and which, these first, [1, 1, n, n]."""
    order = torch.argsort(tiles.int(), dim=-1, descending=True, stable=True)
    return tiles.sum(-1, dtype=torch.int32)[None, None], order.int()[None, None]


def _mask(document: Tensor, causal: bool) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The mask for a pair of positions, given the document of each position."""

    def together(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return document[query] == document[key]

    def before(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (document[query] == document[key]) & (query >= key)

    return before if causal else together
